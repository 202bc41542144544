"""The Triton screen: float16 products on a GPU's matrix units, and all that follows them there.

    pack            centres and rows, in float16, with what they lose                     bounds, kernels/packing
    scan, choose    a first part of the centres: all maxima of groups -> a threshold      kernels/scan, selection
    scan, choose    the others, four times as many in turn: groups that reach it -> a higher one
    members         centres of these groups that may be among the nearest                 kernels/members
    verify, rank    their order values in double-double -> the answer, or doubt           rerank

No number comes back to the host until some blocks of rows have gone through; then one: how many are in doubt. Rows
whose lists were full go through once more, from the threshold that they have now. Others take the ladder.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import COSINE
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.rerank.doubt import CROWDED, OVERFLOW
from janelia_core.ml._knn.screens.rerank.found import reranked
from janelia_core.ml._knn.screens.rerank.sweeping import Sweeping
from janelia_core.ml._knn.screens.triton import launches
from janelia_core.ml._knn.screens.triton.cost import Settings, again
from janelia_core.ml._knn.screens.triton.launches import Listed, Packed
from janelia_core.ml._runtime.device_kernels import launched, why_no_kernels

_FULL = OVERFLOW | CROWDED  # which a second pass may take away


class PreparedTriton:
    """Centres packed for one layout of tiles, for any number of searches.

    Args:
        ctrs: The centres.
        form: Of the metric.
        settings: Of the tiles; only these count.
    """

    stands = True

    def __init__(self, ctrs: Points, form: int, settings: Settings) -> None:
        self.ctrs, self.form = ctrs, form
        self.packed = launched(lambda: _packed(ctrs, form, settings))
        self.nbytes = 0 if self.packed is None else self.packed.nbytes

    def meet(self, asked: Asked) -> Meeting | None:
        """Rows ask for nothing more."""
        if self.packed is None:
            asked.report.look = why_no_kernels()
            return None
        return TritonMeeting(self, self.packed, asked)


class TritonMeeting(Sweeping):
    """Rows that are answered block by block on the device.

    Args:
        prepared: The centres.
        packed: What they are packed as.
        asked: The search.
    """

    def __init__(self, prepared: PreparedTriton, packed: Packed, asked: Asked) -> None:
        self._settings: Settings = asked.plan.own
        super().__init__(asked, self._settings.rows)
        self._prepared, self._packed, self._mask = prepared, packed, asked.mask

    def swept(self, first: int, last: int, answers: Answers) -> Tensor:
        """Answer rows of some blocks; return who is in doubt."""
        x = self._x
        doubt = torch.empty(last - first, dtype=torch.int32, device=x.device)
        thresholds = torch.empty(last - first, dtype=torch.float32, device=x.device)
        for part in self.blocks(first, last):
            numbers = self.numbers(part) if answers.but_self or self._mask is not None else None
            here = slice(part.start - first, part.stop - first)
            found, doubt[here], thresholds[here] = self._searched(
                x.block(part.start, part.stop), numbers, self._settings, None
            )
            answers.put(part, found, numbers)
        left = doubt.nonzero()[:, 0]
        if len(left) == 0:
            return left
        return self._once_more(left + first, doubt[left], thresholds[left], answers)

    def _once_more(self, left: Tensor, why: Tensor, thresholds: Tensor, answers: Answers) -> Tensor:
        """Search rows whose lists were full from the thresholds they have; return who is in doubt still."""
        is_full = (why & ~_FULL) == 0
        full, thresholds, still = left[is_full], thresholds[is_full], [left[~is_full]]
        for start in range(0, len(full), self._settings.again):
            some = slice(start, start + self._settings.again)
            positions = full[some]
            numbers = self._x.row_numbers(positions)
            rows = self._x.take(numbers)
            found, doubt, _ = self._searched(rows, numbers, again(self._settings), thresholds[some])
            answers.put(positions, found, numbers)
            still.append(positions[doubt != 0])
        return torch.cat(still)

    def _searched(
        self, rows: Tensor, numbers: Tensor | None, settings: Settings, known: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what was found of rows (r, k) int64, why they are in doubt (r,), and their thresholds (r,)."""
        prepared, packed = self._prepared, self._packed
        x, shown = self._listed(rows, settings), None if self._mask is None else self._shown(numbers)
        first, *others = settings.edges
        stored = torch.empty(len(rows), settings.groups * first, dtype=torch.float32, device=x.lists.device)
        if known is not None:
            x.thresholds.copy_(known)
        launches.scanned(x, packed, settings, 0, first, shown, stored, True)
        launches.chosen_first(x, packed, settings, stored, shown is not None, known is not None)
        del stored
        for last in others:
            launches.scanned(x, packed, settings, first, last, shown, x.lists, False)
            launches.chosen_again(x, packed, settings)
            first = last
        found = launches.members(x, packed, settings, shown, len(prepared.ctrs))
        values, masked = prepared.ctrs.values, shown is not None
        return reranked(rows, values, found, self._k, prepared.form, masked), found.doubt, x.thresholds

    def _listed(self, values: Tensor, settings: Settings) -> Listed:
        """Pack rows, and make room for their lists."""
        n, device, form, packed = len(values), values.device, self._prepared.form, self._packed
        where, parts = (packed.middle, packed.factor, packed.strange), 1 if settings.whole else settings.parts
        operands, numbers = launches.packed_points(values, None, where, settings.tile, form, n, centres=False)
        return Listed(
            operands,
            numbers,
            thresholds=torch.empty(n, dtype=torch.float32, device=device),
            lists=torch.empty(n, parts, 8, settings.cap, 2, dtype=torch.int32, device=device),
            counts=torch.empty(n, parts, 8, dtype=torch.int32, device=device),
            doubt=torch.empty(n, dtype=torch.int32, device=device),
        )

    def _shown(self, numbers: Tensor | None) -> Tensor:
        """Return which centres rows may be answered with (r, n_ctrs), as bytes."""
        assert self._mask is not None
        assert numbers is not None
        tiles = self._mask.tiles(numbers, max(1, self._settings.edges[0] * self._settings.tile.ctrs))
        return tiles.to(self._x.device).contiguous().view(torch.uint8)


def _packed(ctrs: Points, form: int, settings: Settings) -> Packed:
    """Pack centres for tiles: as they come, or in the order of their norms, the tiles of which are shuffled."""
    device, tile = ctrs.device, settings.tile
    n_tiles = -(-len(ctrs) // tile.ctrs)
    n, order = n_tiles * tile.ctrs, None
    to = launches.placed(ctrs, form)
    by_norm = not settings.biased and form != COSINE
    if by_norm or ctrs.subset is not None:
        places = launches.measured(ctrs, to).argsort() if by_norm else torch.arange(len(ctrs), device=device)
        order = torch.full((n,), -1, dtype=torch.int32, device=device)
        order[: len(ctrs)] = ctrs.row_numbers(places)
        if by_norm:
            order = order.view(n_tiles, tile.ctrs)[_shuffled(n_tiles, device)].reshape(-1)
    operands, numbers = launches.packed_points(ctrs.values, order, to, tile, form, n, centres=True)
    middle, factor, strange = to
    extremes = launches.extremes_of(numbers, tile, settings.biased)
    return Packed(operands, numbers, extremes, order, strange, middle, factor)


def _shuffled(n_tiles: int, device: torch.device) -> Tensor:
    """Return the tiles in an order of which every part is a fair sample."""
    step = next(s for s in range(max(1, int(n_tiles * 0.618)), 0, -1) if math.gcd(s, n_tiles) == 1)
    return torch.arange(n_tiles, device=device) * step % n_tiles
