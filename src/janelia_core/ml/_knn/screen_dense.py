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
(`lift`; steps beta_j of centres on a grid are at least 1), which (3) loses on its left side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.ml._knn import dense_kernels as kernels
from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.dense_centres import PANEL, DenseCentres, Float32s, round_up
from janelia_core.ml._knn.dense_formats import FLOAT32, INT8, Format
from janelia_core.ml._knn.dense_frame import UP, FloatArray, Words
from janelia_core.ml._knn.dense_tiles import ROWS, TILE, WORDS
from janelia_core.ml._knn.float_bits import LANES
from janelia_core.ml._knn.metrics import EUCLIDEAN
from janelia_core.ml._knn.points import Points
from janelia_core.ml._knn.workers import Workers

MOST_ROWS, ROW_BYTES = 512, 1 << 18
"""Rows scanned together, of so many bytes: they stay in a core's L2 cache while tiles pass."""
MAX_NORM = 2.0**60
"""Rows of a larger norm in the frame go up the ladder, as a sum may overflow (centres: about 2^20)."""
SAMPLE = 8
"""Eight groups of centres, of 2 k at least, set the first thresholds, where there are eight times as many."""


class DenseScreen:
    """Excludes centres by low-precision scores; thread safe, scratch is a call's own.

    Args:
        ctrs: Finite centres, any real dtype that float64 holds.
        k: How many centres are wanted, 1 <= k <= n_ctrs.
        chosen: Format of the coordinates.
        relative_error: Bound of the relative error of each coordinate of the points; 0.0: as stored.
        pack_bytes: How many bytes packed centres may take; beyond, each call packs panel by panel.
        workers: Threads that share the packing.
        panel: Centres packed together.
        metric: "dot", "cosine" or a Euclidean one.

    Attributes:
        bytes: What packed centres take.

    Memory:
        Packed centres, or one panel a call; 20 bytes a centre; per row of a call its words, and 12 bytes for each of
        `capacity` entries of its list.
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
        self.k, self.metric, self._ctrs = k, metric, ctrs
        workers = workers or Workers(1, pool=False)
        self.centres = DenseCentres(ctrs, chosen, metric, relative_error, pack_bytes, panel, workers)
        self.bytes = int(self.centres.words.nbytes)
        self.cap = k + chosen.slack + k // 2
        self.capacity = self.cap + 16 + k // 2

    def candidates(self, x_rows: Tensor) -> Candidates:
        """Lists, for each row of x_rows (r, d), centres of which none left out can be among its k nearest.

        Returns:
            Candidates: indices (r, w) int64, -1 where a row has fewer; excluded (r,) float64.
        """
        step = min(MOST_ROWS, max(ROWS, ROW_BYTES // (4 * self.centres.n_words)))
        starts = range(0, x_rows.shape[0], step)
        centres = self.centres
        if centres.kept:
            lists = [self._scanned(x_rows[first : first + step]) for first in starts]
        else:
            blocks = [_RowBlock(self, x_rows[first : first + step]) for first in starts]
            spare = np.zeros((1, centres.panel, centres.n_words), np.uint32)
            steps = np.empty(centres.panel, np.float32)
            for panel in range(centres.n_panels):
                centres.round(panel, spare[0], steps)
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
        block.scan(self, 0, self.centres.words)
        return block.finish(self)


class _RowBlock:
    """Some rows on their way past the tiles, padded to a multiple of ROWS: their words and their shortlist."""

    def __init__(self, screen: DenseScreen, rows: Tensor) -> None:
        r, centres = len(rows), screen.centres
        n = -(-r // ROWS) * ROWS
        self._words, alpha = np.zeros((n, centres.n_words), np.uint32), np.zeros(n, np.float32)
        sums = centres.frame.round(rows, centres.format, 1, self._words, alpha)
        points = centres.frame.measure(centres.d, sums)
        exact = points.whole & centres.whole & (points.norm * centres.largest + centres.largest**2 / 2 < 2.0**23)
        reach = round_up(torch.maximum(points.norm, points.residual / centres.unit) * UP)
        self._lost = ~(reach < MAX_NORM)
        reach[exact | self._lost] = 0
        # The list of a lost row tells nothing, but its keys must be numbers.
        lost = self._lost.numpy()
        self._words[:r][lost], alpha[:r][lost], sums[lost] = 0, 1.0, 0.0
        start, lift = _starts(centres, sums, exact.numpy(), alpha)
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
        centres, rows, k = screen.centres, self._rows, screen.k
        n_tiles, as_type = len(words) * centres.panel // TILE, WORDS[centres.format.name]
        ctrs, points = (array.reshape(-1).view(as_type) for array in (words, self._words))
        given = ctrs, centres.parameters(panel, len(words))
        groups = -(-2 * k // TILE) * TILE
        sample = groups * SAMPLE // TILE
        if panel == 0 and groups * SAMPLE**2 <= centres.n_ctrs and sample <= n_tiles:
            kernels.first_thresholds(*given, sample, groups, points, centres.n_words, k, rows, centres.errs)
        first = panel * centres.panel
        kernels.scan(*given, first, n_tiles, points, centres.n_words, k, screen.cap, rows, centres.errs)

    def finish(self, screen: DenseScreen) -> Candidates:
        """The lists and what they prove: the order value of a score of at most limit, rounded down."""
        width, r, scale = kernels.finish(screen.k, screen.cap, self._rows), self._r, screen.centres.frame.scale
        listed = screen.centres.original(self._rows.ids[:r, :width])
        listed[np.arange(width) >= self._rows.count[:r, None]] = -1
        limit = torch.from_numpy(self._rows.limit[:r])
        if screen.metric == "cosine":
            limit = limit / scale / scale
            excluded = 1.0 - limit
            excluded -= 2.0**-51 * (1.0 + limit.abs())
        else:
            excluded = -limit if screen.metric == "dot" else self._square - 2 * limit
            excluded -= 2.0**-51 * (self._square.abs() + 2 * limit.abs())
            excluded = excluded / scale / scale
        excluded[self._exact] = torch.inf
        excluded[self._lost] = -torch.inf
        if screen.metric not in EUCLIDEAN:
            return Candidates(torch.from_numpy(listed), excluded)
        at_least = np.empty((r, width))
        kernels.order_values(self._rows.keys, self._square.numpy(), 1.0 / scale, at_least)
        at_least[self._lost.numpy()] = -np.inf
        return Candidates(torch.from_numpy(listed), excluded, torch.from_numpy(at_least))


def _widened(lists: Tensor, width: int, value: float) -> Tensor:
    """Lists (r, w) with more slots, so that those of several blocks match."""
    return torch.nn.functional.pad(lists, (0, width - lists.shape[1]), value=value)


def _padded(values: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """Values (r,) and zeros behind them, (n,)."""
    return np.concatenate([values, np.zeros(n - len(values), values.dtype)])


def _starts(
    centres: DenseCentres, sums: FloatArray, exact: npt.NDArray[np.bool_], alpha: Float32s
) -> tuple[npt.NDArray[Any], FloatArray]:
    """What the sums of each of the padded rows start from, and what that adds to keys."""
    steps, r = np.zeros(len(alpha)), len(exact)
    if centres.lacking:
        # 1.01 outweighs what sums of floats lose of it.
        steps[:r][~exact] = 1.01 * centres.lacking / alpha[:r][~exact]
    if centres.format is not INT8:
        lift = (steps * (1.0 + 2.0**-22)).astype(np.float32)
        return lift, lift.astype(np.float64)
    steps = np.ceil(steps)
    start = steps.copy()
    start[:r] -= 128.0 * sums[:, 5]  # centres are v + 128
    return start.astype(np.int32), steps * alpha * centres.widest
