"""Lists of some rows, from a part or from several: brought to one scale, sorted, cut where the rest is farther."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.files.errors import VectorFileError
from janelia_core.files.parts.part_file import PartFile
from janelia_core.files.parts.record import Facts, column, facts
from janelia_core.ml._knn.contract import Ordered
from janelia_core.ml._knn.metrics.registry import metric_class, metric_named
from janelia_core.ml._knn.settle.settle import open_between
from janelia_core.ml._knn.verify.verify import in_order

RANK_BITS = 32
_MOST_EXPONENT = 1100
_FACTOR = 1000  # of two, at a time: a larger power of it is no float64


@dataclass(frozen=True)
class Lists:
    """What is listed of r rows.

    Attributes:
        metric: By which.
        d: Coordinates of what was searched.
        numbers: (r, w) int64 numbers among all centres, -1 in empty slots.
        value: (r, w) float64 order values, NaN in empty slots.
        error: (r, w) float64: how far each can be off.
        distance: (r, w) the distances.
        origin: (r, w) int64: the list that it comes from, times 2^32, and its place in that, which is in exact order.
        facts: What holds for all values of a row.
    """

    metric: str
    d: int
    numbers: Tensor
    value: Tensor
    error: Tensor
    distance: Tensor
    origin: Tensor
    facts: Facts

    @classmethod
    def of(cls, file: PartFile, rows: npt.NDArray[Any], source: int, metric: str, d: int) -> Lists:
        """Return what rows of a part's file list.

        Raises:
            VectorFileError: They list what the part does not have.
        """
        first, n = file.header.ctr_rows
        local, known = column(rows, "index", torch.int64), facts(rows)
        if local.numel() and not -1 <= int(local.min()) <= int(local.max()) < n:
            raise VectorFileError(file.path, "is damaged: it lists centres that it does not have")
        if known.exponent.numel() and int(known.exponent.abs().max()) > _MOST_EXPONENT:
            raise VectorFileError(file.path, "is damaged: its values are on scales that no float64 has")
        numbers = torch.where(local < 0, -1, local + first)
        value = column(rows, "value", torch.float64).masked_fill(local < 0, torch.nan)
        error = column(rows, "error", torch.float64) if file.header.record.errors else torch.zeros_like(value)
        far = column(rows, "distance", torch.float32 if file.header.record.itemsize == 4 else torch.float64)
        origin = (source << RANK_BITS) + torch.arange(local.shape[1]).expand_as(local)
        on_grids = known._replace(exact=known.exact & metric_class(metric).exact_on_grids)
        return cls(metric, d, numbers, value, error, far, origin, on_grids)._with_errors()

    @property
    def width(self) -> int:
        """Slots of a row."""
        return self.numbers.shape[1]

    def rows(self, which: Tensor) -> Lists:
        """Return some of the rows."""
        columns = {name: getattr(self, name)[which] for name in _COLUMNS}
        return self.with_columns(columns, Facts(*(part[which] for part in self.facts)))

    def with_columns(self, columns: Mapping[str, Tensor], facts: Facts | None = None) -> Lists:
        """Return lists in which some columns are others."""
        changes: dict[str, Any] = dict(columns)
        return replace(self, **changes, facts=self.facts if facts is None else facts)

    def put(self, which: Tensor, others: Lists) -> None:
        """Put other lists, of as many slots, in the place of some rows."""
        for name in _COLUMNS:
            getattr(self, name)[which] = getattr(others, name)

    def without(self, out: Tensor) -> Lists:
        """Return lists without some slots (r, w), as narrow as what is left."""
        places = torch.where(out | (self.numbers < 0), 0, torch.arange(1, self.width + 1))
        width = int(places.max()) if places.numel() else 0
        out, cut = out[:, :width], {name: getattr(self, name)[:, :width] for name in _COLUMNS}
        cut["numbers"] = cut["numbers"].masked_fill(out, -1)
        cut["value"] = cut["value"].masked_fill(out, torch.nan)
        return replace(self, **cut)

    def scaled_to(self, exponent: Tensor) -> Lists:
        """Return values of points times 2^-exponent (r,), none smaller than before; what underflows is an error."""
        shift = metric_class(self.metric).degree * (self.facts.exponent - exponent)
        value, error = self.value, self.error
        while bool((shift < 0).any()):
            part = shift.clamp(min=-_FACTOR)
            factor = torch.from_numpy(np.ldexp(1.0, part.numpy()))[:, None]
            value = value * factor
            error = torch.where(part[:, None] < 0, error * factor + 2.0**-1020, error)
            shift = shift - part
        exact = self.facts.exact & (self.facts.exponent == exponent)
        known = self.facts._replace(exponent=exponent, exact=exact)
        return replace(self, value=value, error=error, facts=known)._with_errors()

    def open(self) -> Tensor:
        """Tell (r, w - 1) bool between which neighbours of sorted lists the order is open."""
        loose = metric_named(self.metric)
        return open_between(Ordered(self.numbers, self.value, self.error), loose) & ~self.facts.exact[:, None]

    def cut(self, k: int) -> Lists:
        """Return the lists sorted, without what is behind the first k and what may be as near as the last of these."""
        places = in_order(self.numbers, self.value)
        lists = replace(self, **{name: getattr(self, name).gather(1, places) for name in _COLUMNS})
        if lists.width <= k:
            return lists
        ends = k + lists.open()[:, k - 1 :].to(torch.int32).cumprod(dim=1).sum(dim=1)
        return lists.without(torch.arange(lists.width) >= ends[:, None])

    def farthest(self, k: int) -> Tensor:
        """Return (r, 1) how far the k-th of sorted lists is at most, or what nothing is farther than."""
        if self.width < k:
            return torch.full((len(self.numbers), 1), torch.inf, dtype=torch.float64)
        return (self.value + self.error)[:, :k].amax(dim=1, keepdim=True)  # NaN, where fewer are listed

    def _with_errors(self) -> Lists:
        """Return them with the errors that a bound tells, where one does: of a row all by the same."""
        loose = metric_named(self.metric)
        if not loose.uniform:
            return self
        errors = loose.errors_of(self.value, self.d).masked_fill(self.facts.exact[:, None], 0.0)
        return replace(self, error=errors)


_COLUMNS = ("numbers", "value", "error", "distance", "origin")


def joined(lists: Sequence[Lists]) -> Lists:
    """Return lists of the same rows side by side."""
    if len(lists) == 1:
        return lists[0]
    together = common([one.facts for one in lists])
    scaled = [one.scaled_to(together.exponent) for one in lists]
    columns = {name: torch.cat([getattr(one, name) for one in scaled], dim=1) for name in _COLUMNS}
    return lists[0].with_columns(columns, together)._with_errors()


def common(known: Sequence[Facts]) -> Facts:
    """Return what holds for values of several lists: on a scale that is new to some, they may be rounded."""
    exponents = torch.stack([one.exponent for one in known])
    exponent = exponents.amax(dim=0)
    exact = torch.stack([one.exact for one in known]).all(dim=0) & (exponents == exponent).all(dim=0)
    return Facts(exponent, exact, torch.stack([one.in_float64 for one in known]).all(dim=0))
