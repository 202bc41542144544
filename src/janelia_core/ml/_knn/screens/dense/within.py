"""All centres within a limit, by the scores of the dense screen: each is compared with its row's limit in registers.

With the names of `dense.screen`: a centre with an order value of at most L has, in real arithmetic and in the frame,

    s >= (|x|^2 - L) / 2   for distances,     s >= -L   for inner products,     s >= 1 - L   for cosines.

Its key P is no smaller than s by (3). So whoever lists all centres whose key reaches that number, rounded down, lists
all that are within. Rows that the format doesn't hold list every centre.

A format that lists many centres in vain gives way to a finer one, as soon as verifying them costs more than the finer
scores do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Members
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.rows import Rows, parts
from janelia_core.ml._knn.screens.dense.centres import DenseCentres
from janelia_core.ml._knn.screens.dense.cost import per_pair
from janelia_core.ml._knn.screens.dense.frame import Words
from janelia_core.ml._knn.screens.dense.rounding import SUMS
from janelia_core.ml._knn.screens.dense.rows import PackedRows, pack_rows
from janelia_core.ml._knn.screens.dense.scan import Tiles
from janelia_core.ml._knn.screens.dense.screen import MOST_ROWS, ROW_BYTES
from janelia_core.ml._knn.screens.dense.within_kernels import list_reaching, put_in_rows, set_thresholds
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._runtime.arrays import F32, I64
from janelia_core.ml._simd.dot_tiles import ROWS, TILE, WORDS

_FEWEST = 1 << 12  # pairs for which there is room at first
_ASKED = 256  # pairs that tell how many are listed in vain
_PER_PAIR, _PER_COORDINATE = 20.0, 0.3  # nanoseconds of verifying one


class DenseWithin:
    """Lists by low-precision scores; called for blocks of rows from any number of threads.

    Args:
        packed: Tells all finite centres, packed in a format.
        formats: The formats, the cheapest first.
        metric: What orders centres, of stored values.

    Memory:
        A call takes 16 bytes for each pair that it lists, half of them for a moment, what packed rows take, and one
        panel where packed centres are not kept.
    """

    def __init__(self, packed: Callable[[str], DenseCentres], formats: tuple[str, ...], metric: Metric) -> None:
        self._packed, self._formats, self._metric = packed, formats, metric
        self._rungs = Rungs[str](lambda name: name, formats)  # packed when rows ask for them

    def members(self, rows: Rows, limit: Tensor, most: int) -> Members | None:
        """Return all centres within the limit; see `Within`."""
        n, last = len(rows.values), len(self._rungs) - 1
        for rung in range(self._rungs.start, last + 1):
            centres, hits = self._packed(self._rungs[rung]), _Hits(most)
            found = _listed(centres, rows, limit, hits)
            if rung == last or (found is not None and not self._rungs.is_new(rung)):
                return found
            # A finer format pays by what it costs more, or in all where this one has been paid.
            in_vain = self._in_vain(centres, rows, limit, hits)
            this, finer = (n * centres.n_ctrs * per_pair(name, centres.d) for name in self._formats[rung : rung + 2])
            self._rungs.note(rung, n, n * (in_vain > finer - this))
            if found is not None and in_vain <= finer:
                return found
        return None

    def _in_vain(self, centres: DenseCentres, rows: Rows, limit: Tensor, hits: _Hits) -> float:
        """Return the nanoseconds that it takes to verify what is not within, by a sample of what is listed."""
        counts, listed = map(torch.from_numpy, _in_rows(centres, len(rows.values), hits, hits.used // _ASKED + 1))
        if len(listed) == 0:
            return 0.0
        x, limits = (of_rows.repeat_interleave(counts, dim=0) for of_rows in (rows.values, limit))
        value, error = self._metric.pair_values(x, centres.ctrs.take(listed))
        share = float((value - error > limits).double().mean())
        return share * hits.used * (_PER_PAIR + _PER_COORDINATE * centres.d)


class _Hits:
    """Pairs that were listed, `most` of them at most.

    Attributes:
        pairs: Room for them.
        used: How many there are.
    """

    def __init__(self, most: int) -> None:
        self._most, self.used = most, 0
        self.pairs: I64 = np.empty(min(most, _FEWEST), np.int64)

    def grow(self) -> bool:
        """Make more room; False: there are too many."""
        if len(self.pairs) == self._most:
            return False
        more: I64 = np.empty(min(self._most, 2 * len(self.pairs)), np.int64)
        more[: self.used] = self.pairs[: self.used]
        self.pairs = more
        return True


def _listed(centres: DenseCentres, rows: Rows, limit: Tensor, hits: _Hits) -> Members | None:
    """Return what the scores of some centres list."""
    n, step = len(rows.values), max(ROWS, min(MOST_ROWS, ROW_BYTES // (4 * centres.n_words)) // ROWS * ROWS)
    blocks = [(part.start, *_packed(centres, rows.pick(part).values, limit[part])) for part in parts(n, step)]
    if centres.kept:
        done = all(_scan(centres, 0, centres.words, block, hits) for block in blocks)
    else:
        spare = np.zeros((1, centres.panel, centres.n_words), np.uint32)
        steps, sums = np.empty(centres.panel, np.float32), np.empty(centres.panel, SUMS)
        done = True
        for panel in range(centres.n_panels):
            centres.round(panel, spare[0], steps, sums)
            done = done and all(_scan(centres, panel, spare, block, hits) for block in blocks)
    if not done:
        return None
    counts, listed = _in_rows(centres, n, hits)
    return Members(torch.from_numpy(counts), torch.from_numpy(listed))


def _packed(centres: DenseCentres, rows: Tensor, limit: Tensor) -> tuple[PackedRows, F32]:
    """Return rows and their thresholds."""
    n = -(-len(rows) // ROWS) * ROWS
    packed, threshold = pack_rows(centres, rows, np.zeros(n, np.bool_)), np.empty(n, np.float32)
    scale = centres.frame.scale
    set_thresholds(centres.form, limit.numpy(), packed.square, packed.lost, scale, threshold)
    return packed, threshold


def _scan(centres: DenseCentres, panel: int, words: Words, block: tuple[int, PackedRows, F32], hits: _Hits) -> bool:
    """List pairs of a block of rows and the panels of centres in words, from number `panel` on; False: too many."""
    first, rows, threshold = block
    ctrs, parameters = words.reshape(-1).view(WORDS[centres.format.name]), centres.parameters(panel, len(words))
    tiles, tile = Tiles(ctrs, parameters, panel * centres.panel, centres.errs), 0
    n_tiles = len(words) * centres.panel // TILE
    while True:
        tile, hits.used = list_reaching(tiles, rows.terms, threshold, first, tile, hits.used, hits.pairs)
        if tile == n_tiles:
            return True
        if not hits.grow():
            return False


def _in_rows(centres: DenseCentres, n: int, hits: _Hits, every: int = 1) -> tuple[I64, I64]:
    """Return counts (n,) and row numbers of centres (p,) of every so many-th hit."""
    pairs, names = np.ascontiguousarray(hits.pairs[: hits.used : every]), centres.ctrs.subset
    counts, listed = np.empty(n, np.int64), np.empty(len(pairs), np.int64)
    called = np.empty(0, np.int64) if names is None else names.numpy()
    put_in_rows(pairs, len(pairs), centres.panel, centres.stride, called, counts, listed)
    return counts, listed
