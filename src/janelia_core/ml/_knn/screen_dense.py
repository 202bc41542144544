"""The dense CPU screen: low-precision scores of all centres with a proven error, compared while in registers.

Tile by tile of centres, `dense_tiles` computes an upper bound of every score, and `dense_kernels` keeps the centres
whose bound reaches the k-th best lower bound met so far.

The score of centre c for row x is s = <x, c> - |c|^2 / 2, so that D = |x - c|^2 = |x|^2 - 2 s in real
arithmetic: nearest is largest. Both points are taken relative to a mean of centres (which changes no
difference) and multiplied by a power of two that puts the largest centre near 2^20, far from overflow and
subnormals.

Derivation of the bound
-----------------------
Let x^ and c^ be the points as the format holds them: rounded to float32 or bfloat16, or q alpha with q an int8 a
coordinate and alpha a step of the point's own. Let dx = x - x^, dc = c - c^, with measured norms rx >= |dx| and
rc >= |dc|. Cauchy-Schwarz on the two terms of <x, c> - <x^, c^> = <dx, c> + <x^, dc>  gives

    |<x, c> - <x^, c^>| <= rx |c| + |x^| rc.                                                            (1)

The sum over d coordinates, in any order and with or without fused multiply-adds, and after it the key
P = t beta_j alpha_i + (a_i e_j + h_j) with six roundings in float32, satisfy (Higham, Accuracy and Stability, 2nd ed.,
3.1, for every bracketing)

    |P - (<x^, c^> + a_i e_j + h_j)| <= g (sum_q |x^_q c^_q| + a_i e_j + |h_j|) + W t,  g = v W / (1 - v W),  (2)

with v = 2^-24, W = d + 8 for float32; v = 2^-23 for bfloat16, whose hardware need not round each sum to nearest;
W = 8 for int8, whose sums are exact; and t = 2^-125 for what underflows or is flushed to zero. The constants carry
the errors along:

    a_i >= |x^_i|,  a_i rho >= rx_i                  (rho: `unit` of the format; for int8, usual among the centres)
    e_j >= ((rho + g) N_j + rc_j) / (1 - g),         N_j >= |c_j|, |c^_j|
    h_j >= -|c_j|^2 / 2 + g |h_j| + W t

so that a_i e_j (1 - g) outweighs (1) and the coordinates' share of (2), h_j its own share, and therefore

    P - 2 a_i e_j - g_j  <=  s  <=  P,    g_j >= h_j + |c_j|^2 / 2 + g |h_j| + W t.                      (3)

If T is the k-th largest lower bound of a row, centres with an upper bound below T are farther than k others; all that
are not listed have s <= T, hence D >= |x|^2 - 2 T, evaluated in float64 and rounded outwards.

Heavy tails stay harmless: the error is a product of a row's and a centre's own norms, never of two maxima.

Inner products and cosines
--------------------------
For -<x, c> the score is <x, c>: h_j is only what pays for W t, no point is shifted, and centres not listed have
-<x, c> >= -T. For 1 - cos the points are directions, whose own error goes into the residuals, and 1 - cos >= 1 - T.

Exact keys
----------
If all centres are multiples of one power of two (pixels, counts, lattices), points become integers and keys
multiples of 1/2. For a row on the same grid with |x| |c| + |c|^2 / 2 < 2^23 for all centres that the format holds
exactly, every partial sum in any order is a multiple of 1/2 below 2^23 and so exact, and h_j = -|c_j|^2 / 2 is: a_i = 0
switches the errors off, the scan breaks ties by the lowest index, and k centres with excluded = +inf are the answer.
So on such a grid h_j carries no error of its own. What it lacks, at most L, the sums of all other rows start from
(`lift`), which (3) loses on its left side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.ml._knn import dense_kernels as kernels
from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.dense_formats import FLOAT32, INT8, Format
from janelia_core.ml._knn.dense_frame import (
    SUMS,
    TINY,
    UP,
    FloatArray,
    Measured,
    Words,
    find_frame,
    frame_of_directions,
)
from janelia_core.ml._knn.dense_tiles import PARAMETERS, ROWS, TILE, WORDS
from janelia_core.ml._knn.float_bits import LANES
from janelia_core.ml._knn.metrics import EUCLIDEAN
from janelia_core.ml._knn.points import Points
from janelia_core.ml._knn.workers import Workers

IdArray = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
PANEL = 256
"""Centres packed and scanned together, fewer where memory is tight (a multiple of 64)."""
PACKED_AT_ONCE = 32
"""Panels packed together, so that the arithmetic on norms costs no call per panel."""
MEASURED_AT_ONCE = 4
"""The same where panels are not kept: memory is tight, and the arithmetic has a dozen temporaries in float64."""
MOST_ROWS, ROW_BYTES = 512, 1 << 18
"""Rows scanned together, of so many bytes: they stay in a core's L2 cache while tiles pass."""
MAX_NORM = 2.0**60
"""Rows of a larger norm in the frame go up the ladder, as a sum may overflow (centres: about 2^20)."""
SAMPLE = 8
"""Eight groups of centres, of 2 k at least, set the first thresholds, where there are eight times as many."""
EPILOGUE = 8
"""Roundings of a key, and two to spare."""


def round_up(bound: Tensor) -> Tensor:
    """Nonnegative float64 bounds in float32, never smaller."""
    return (bound * (1.0 + 2.0**-22) + TINY).float()


class DenseScreen:
    """Excludes centres by one low-precision matrix product; thread safe, scratch is a call's own.

    Args:
        ctrs: Finite centres, any real dtype that float64 holds.
        k: How many centres are wanted, 1 <= k <= n_ctrs.
        dtype: Format of the product, float32 or bfloat16.
        relative_error: Bound of the relative error of each coordinate of the points; 0.0: as stored.
        pack_bytes: How many bytes packed centres may take; beyond, each call packs panel by panel.
        workers: Threads that share the packing.
        panel: Centres in one product.
        metric: "dot", "cosine" or a Euclidean one.

    Memory:
        Packed centres, or one panel a call; 8 bytes a centre, and up to 12 more where they are not packed; per row of
        a call (d + 3) words of the format, its buffer of `capacity` pairs and a tile's row.
    """

    def __init__(
        self,
        ctrs: Points,
        k: int,
        chosen: Format = FLOAT32,
        relative_error: float = 0.0,
        pack_bytes: int = 2**62,
        workers: Workers | None = None,
        panel: int = PANEL,
        metric: str = "euclidean",
    ) -> None:
        self.k, self.format, self._ctrs, self._panel = k, chosen, ctrs, panel
        self.metric, self._product = metric, metric not in EUCLIDEAN
        self.n_ctrs, self.d = len(ctrs), ctrs.d
        workers = workers or Workers(1, pool=False)
        if metric == "cosine":
            self.frame = frame_of_directions(self.d)
        else:
            self.frame = find_frame(ctrs, chosen, relative_error, workers, self._product)
        self.n_panels = -(-self.n_ctrs // panel)
        self.n_words = chosen.n_words(self.d)
        self.cap = k + chosen.slack + k // 2
        self.capacity = self.cap + 16 + k // 2
        roundings = EPILOGUE if chosen is INT8 else self.d + EPILOGUE
        unit = max(chosen.sum_unit, 2.0**-24)
        self.gamma, self._tiny = roundings * unit / (1.0 - roundings * unit), (roundings + 4) * TINY
        self.unit = chosen.unit
        n_packed = self.n_panels * panel
        self.errs = np.zeros((n_packed, 2), np.float32)
        self._parameters = np.zeros((n_packed // TILE, PARAMETERS, TILE), np.float32)
        self._kept = n_packed * self.n_words * 4 <= pack_bytes
        self._words = np.zeros((self.n_panels if self._kept else 0, panel, self.n_words), np.uint32)
        self._group = PACKED_AT_ONCE if self._kept else MEASURED_AT_ONCE
        self._exactable = self.frame.may_be_exact
        if chosen is INT8:
            self.unit = workers.once(self._usual_loss)
        packed = workers.each(self._pack, range(0, self.n_panels, self._group))
        self.largest = max(norm for norm, _, _ in packed)
        self.whole = self._exactable and all(whole for _, whole, _ in packed)
        self.lacking = max(lacking for *_, lacking in packed)

    @property
    def bytes(self) -> int:
        """What packed centres take."""
        return int(self._words.nbytes)

    def _members(self, panel: int) -> tuple[int, int, int]:
        """Positions of a panel's centres: a run on a grid, where ties want ascending order, else every n-th.

        A strided sample meets near and far centres alike, so the first panels already leave tight thresholds
        even when the centres are sorted.
        """
        if self._exactable:
            return panel * self._panel, min((panel + 1) * self._panel, self.n_ctrs), 1
        return panel, self.n_ctrs, self.n_panels

    def _usual_loss(self) -> float:
        """What most centres lose, relative to their norms: any unit is right, this one makes errors small."""
        n = min(self._panel, self.n_ctrs)
        spare = np.zeros((self._panel, self.n_words), np.uint32)
        sums = self._round(0, spare, np.empty(self._panel, np.float32))[:n]
        measured = self.frame.measure(self.d, sums)
        usual = float((measured.residual / measured.norm.clamp(min=TINY)).quantile(0.75))
        return min(max(usual, 2.0**-20), self.format.unit)

    def _pack(self, first: int) -> tuple[float, bool, float]:
        """Fills a group of panels from `first` on where they are kept, their parameters, and errs.

        Returns the largest norm, whether all centres are made of integers, and the most that a level lacks.
        """
        p, size = min(self._group, self.n_panels - first), self._panel
        spare = np.zeros((0 if self._kept else size, self.n_words), np.uint32)
        steps, sums = np.ones((p, size), np.float32), np.zeros((p, size, SUMS))
        unused = torch.ones(p, size, dtype=torch.bool, device="cpu")
        for panel in range(p):
            words = self._words[first + panel] if self._kept else spare
            own = self._round(first + panel, words, steps[panel])
            sums[panel, : len(own)] = own
            unused[panel, : len(own)] = False
        measured = self.frame.measure(self.d, sums.reshape(-1, SUMS))
        reach, level, gap, lacking = self._bound(measured)
        level[unused.reshape(-1)] = -torch.inf
        tiles = slice(first * size // TILE, (first + p) * size // TILE)
        for place, values in enumerate((torch.from_numpy(steps), reach, level)):
            self._parameters[tiles, place] = values.reshape(-1, TILE).numpy()
        errs = round_up(torch.stack([reach.double(), gap * UP], 1))
        self.errs[first * size : (first + p) * size] = errs.numpy()
        return float(measured.norm.max()), bool((measured.whole | unused.reshape(-1)).all()), lacking

    def _round(self, panel: int, words: Words, steps: Float32s) -> FloatArray:
        """Rounds a panel's points into words and steps; returns the sums of as many as there are."""
        return self.frame.round(self._ctrs.block(*self._members(panel)), self.format, TILE, words, steps)

    def _bound(self, points: Measured) -> tuple[Tensor, Tensor, Tensor, float]:
        """e_j and h_j in float32, and g_j, of centres; and the most that an h_j lacks."""
        half = torch.zeros_like(points.square) if self._product else points.square / 2
        own = self.gamma * 1.1 * half + self._tiny
        own += 0.0 if self._product else points.square_error
        reach = round_up(((self.unit + self.gamma) * points.norm + points.residual) / (1 - self.gamma) * UP)
        if self._exactable:
            level = (-half).float()
            own += (half + level.double()).abs()
            return reach, level, own, float(own.max())
        target = own - half
        level = (target + 2.0**-23 * target.abs() + TINY).float()
        return reach, level, (level.double() + half).clamp(min=0) + own, 0.0

    def candidates(self, x_rows: Tensor) -> Candidates:
        """Lists, for each row of x_rows (r, d), centres of which none left out can be among its k nearest.

        Returns:
            Candidates: indices (r, w) int64, -1 where a row has fewer; excluded (r,) float64.
        """
        step = min(MOST_ROWS, max(ROWS, ROW_BYTES // (4 * self.n_words)))
        starts = range(0, x_rows.shape[0], step)
        if self._kept:
            lists = [self._scanned(x_rows[first : first + step]) for first in starts]
        else:
            blocks = [_RowBlock(self, x_rows[first : first + step]) for first in starts]
            spare, steps = np.zeros((1, self._panel, self.n_words), np.uint32), np.empty(self._panel, np.float32)
            for panel in range(self.n_panels):
                self._round(panel, spare[0], steps)
                for block in blocks:
                    block.scan(self, panel, spare)
            lists = [block.finish(self) for block in blocks]
        width = max(listed.indices.shape[1] for listed in lists)
        indices = torch.cat([_widened(listed.indices, width, -1) for listed in lists])
        at_least = [_widened(listed.at_least, width, torch.inf) for listed in lists if listed.at_least is not None]
        return Candidates(
            self._ctrs.row_numbers(indices),
            torch.cat([listed.excluded for listed in lists]),
            torch.cat(at_least) if at_least else None,
        )

    def _scanned(self, rows: Tensor) -> Candidates:
        """Lists candidates of a few rows among packed centres."""
        block = _RowBlock(self, rows)
        block.scan(self, 0, self._words)
        return block.finish(self)

    def parameters(self, panel: int, n_panels: int) -> Float32s:
        """What goes into the keys of some panels."""
        per_panel = self._panel // TILE
        return self._parameters[panel * per_panel : (panel + n_panels) * per_panel].reshape(-1)

    def original(self, packed: IdArray) -> IdArray:
        """Positions among the centres of packed positions."""
        position = packed.astype(np.int64)
        if not self._exactable:
            position = position % self._panel * self.n_panels + position // self._panel
        return position


class _RowBlock:
    """Some rows on their way past the tiles, padded to a multiple of ROWS: their words and their shortlist."""

    def __init__(self, screen: DenseScreen, rows: Tensor) -> None:
        r = len(rows)
        n = -(-r // ROWS) * ROWS
        self._words, alpha = np.zeros((n, screen.n_words), np.uint32), np.zeros(n, np.float32)
        sums = screen.frame.round(rows, screen.format, 1, self._words, alpha)
        points = screen.frame.measure(screen.d, sums)
        exact = points.whole & screen.whole & (points.norm * screen.largest + screen.largest**2 / 2 < 2.0**23)
        reach = round_up(torch.maximum(points.norm, points.residual / screen.unit) * UP)
        self._lost = ~(reach < MAX_NORM)
        reach[exact | self._lost] = 0
        self._words[:r][self._lost.numpy()] = 0
        start, lift = _starts(screen, sums, exact.numpy(), alpha)
        # |x|^2 rounded down, in the frame.
        self._square = points.square - points.square_error
        self._exact, self._r = exact, r
        self._rows = kernels.Shortlist(
            start=start,
            alpha=alpha,
            lift=lift,
            reach=_padded(reach.numpy(), n),
            threshold=np.full(n, np.finfo(np.float32).min),
            limit=np.full(n, -np.inf),
            exact=_padded(exact.numpy(), n),
            count=np.zeros(n, np.int64),
            full=np.full(n, min(screen.capacity, screen.k + kernels.BETWEEN + screen.k // 4)),
            keys=np.empty((n, screen.capacity), np.float32),
            ids=np.empty((n, screen.capacity), np.int32),
            lows=np.empty(n * screen.capacity + LANES, np.int32),
        )
        self._rows.threshold[r:] = np.inf

    def scan(self, screen: DenseScreen, panel: int, words: Words) -> None:
        """Look at the panels of centres in words, the first of which is number `panel`."""
        size, as_type = words.shape[1], WORDS[screen.format.name]
        ctrs, points = (array.reshape(-1).view(as_type) for array in (words, self._words))
        parameters, n_tiles = screen.parameters(panel, len(words)), len(words) * size // TILE
        groups = -(-2 * screen.k // TILE) * TILE
        if panel == 0 and groups * SAMPLE**2 <= screen.n_ctrs and groups * SAMPLE <= n_tiles * TILE:
            rows, errs = self._rows, screen.errs
            sample = groups * SAMPLE // TILE
            kernels.first_thresholds(ctrs, parameters, sample, groups, points, screen.n_words, screen.k, rows, errs)
        kernels.scan(
            ctrs,
            parameters,
            panel * size,
            n_tiles,
            points,
            screen.n_words,
            screen.k,
            screen.cap,
            self._rows,
            screen.errs,
        )

    def finish(self, screen: DenseScreen) -> Candidates:
        """The lists and what they prove: the order value of a score of at most limit, rounded down."""
        width, r = kernels.finish(screen.k, screen.cap, self._rows), self._r
        listed = screen.original(self._rows.ids[:r, :width])
        listed[np.arange(width) >= self._rows.count[:r, None]] = -1
        limit = torch.from_numpy(self._rows.limit[:r])
        if screen.metric == "cosine":
            limit = limit / screen.frame.scale / screen.frame.scale
            excluded = 1.0 - limit
            excluded -= 2.0**-51 * (1.0 + limit.abs())
        else:
            excluded = -limit if screen.metric == "dot" else self._square - 2 * limit
            excluded -= 2.0**-51 * (self._square.abs() + 2 * limit.abs())
            excluded = excluded / screen.frame.scale / screen.frame.scale
        excluded[self._exact] = torch.inf
        excluded[self._lost] = -torch.inf
        if screen.metric not in EUCLIDEAN:
            return Candidates(torch.from_numpy(listed), excluded)
        at_least = np.empty((r, width))
        kernels.order_values(self._rows.keys, self._square.numpy(), 1.0 / screen.frame.scale, at_least)
        at_least[self._lost.numpy()] = -np.inf
        return Candidates(torch.from_numpy(listed), excluded, torch.from_numpy(at_least))


def _widened(lists: Tensor, width: int, value: float) -> Tensor:
    """Lists (r, w) with more slots, so that those of several blocks match."""
    return torch.nn.functional.pad(lists, (0, width - lists.shape[1]), value=value)


def _padded(values: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """Values (r,) and zeros behind them, (n,)."""
    return np.concatenate([values, np.zeros(n - len(values), values.dtype)])


def _starts(
    screen: DenseScreen, sums: FloatArray, exact: npt.NDArray[np.bool_], alpha: Float32s
) -> tuple[npt.NDArray[Any], FloatArray]:
    """What the sums of each of the padded rows start from, and what that adds to keys."""
    steps, r = np.zeros(len(alpha)), len(exact)
    if screen.lacking:
        # 1.01 outweighs what sums of floats lose of it.
        steps[:r][~exact] = 1.01 * screen.lacking / alpha[:r][~exact]
    if screen.format is not INT8:
        lift = (steps * (1.0 + 2.0**-22)).astype(np.float32)
        return lift, lift.astype(np.float64)
    steps = np.ceil(steps)
    start = steps.copy()
    start[:r] -= 128.0 * sums[:, 5]  # centres are v + 128
    return start.astype(np.int32), steps * alpha
