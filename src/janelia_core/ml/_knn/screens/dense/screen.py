"""The dense CPU screen: low-precision scores of all centres with a proven error, compared while in registers.

Tile by tile of centres, `dot_tiles` computes an upper bound of every score, and `scan` keeps the centres
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

import numpy as np
import torch

from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.mask_bits import BitMask, Order
from janelia_core.ml._knn.data.mask_kernels import Bits
from janelia_core.ml._knn.rows import Rows, parts
from janelia_core.ml._knn.screens.dense.centres import DenseCentres
from janelia_core.ml._knn.screens.dense.rounding import SUMS
from janelia_core.ml._knn.screens.dense.rows import RowBlock
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.dot_tiles import ROWS

MOST_ROWS, ROW_BYTES = 864, 1 << 19
"""Rows scanned together, of so many bytes: they stay in a core's L2 cache while tiles pass."""


class DenseScreen:
    """Excludes centres by low-precision scores; thread safe, scratch is a call's own.

    Args:
        centres: The packed centres.
        k: How many are wanted, 1 <= k <= n_ctrs.
        mask: Which centres a row may have; None: all.

    Memory:
        One panel a call, where packed centres are not kept; per row of a call its words, and 12 bytes for each of
        `capacity` entries of its list, and under a mask a bit for each centre.
    """

    def __init__(self, centres: DenseCentres, k: int, mask: BitMask | None = None) -> None:
        self.centres, self.k, self._mask = centres, k, mask
        self.cap = k + centres.format.slack + k // 2
        self.capacity = self.cap + 16 + k // 2

    def candidates(self, rows: Rows) -> Candidates:
        """Lists, for each of r rows, centres of which none left out can be among its k nearest.

        Returns:
            Candidates: indices (r, w) int64, -1 where a row has fewer; excluded (r,) float64.
        """
        centres, n = self.centres, len(rows.values)
        step = min(MOST_ROWS, max(ROWS, ROW_BYTES // (4 * centres.n_words)))
        some = [rows.pick(part) for part in parts(n, step)]
        if centres.kept:
            lists = [self._scanned(part, self._words(part)) for part in some]
        else:
            blocks = [self._block(part, self._words(part)) for part in some]
            spare = np.zeros((1, centres.panel, centres.n_words), np.uint32)
            steps, sums, wide = np.empty(centres.panel, np.float32), np.empty(centres.panel, SUMS), centres.spare()
            for panel in range(centres.n_panels):
                centres.round(panel, spare[0], steps, sums, wide)
                for block in blocks:
                    block.scan(panel, spare, first=panel == 0)
            lists = [block.finish() for block in blocks]
        return self._said(lists[0] if len(lists) == 1 else joined(lists))

    def _said(self, found: Candidates) -> Candidates:
        """The same by row numbers."""
        mask = self._mask
        if mask is not None and len(mask.mask.ctrs) > self.centres.n_ctrs:
            # Others are not finite and come last; but a row may have them where it has fewer than k of these.
            found.excluded[(found.indices >= 0).sum(dim=1) < self.k] = -torch.inf
        return found._replace(indices=self.centres.ctrs.row_numbers(found.indices))

    def _block(self, rows: Rows, words: Bits | None) -> RowBlock:
        return RowBlock(self.centres, rows.values, self.k, self.cap, self.capacity, words)

    def _words(self, rows: Rows) -> Bits | None:
        """Which of the packed centres rows may have."""
        if self._mask is None:
            return None
        centres, n = self.centres, -(-len(rows.values) // ROWS) * ROWS
        order = Order(centres.n_panels * centres.panel, centres.panel, centres.stride)
        return self._mask.bits(rows.numbers, n, centres.ctrs, order)

    def _scanned(self, rows: Rows, words: Bits | None, first: int = 0, last: int | None = None) -> Candidates:
        """Lists candidates of a few rows among packed centres, or among those of some panels."""
        block = self._block(rows, words)
        block.scan(first, self.centres.words[first:last], first=True)
        return block.finish()

    def shared(self, rows: Rows, workers: Workers) -> Candidates:
        """Lists candidates of few finite rows among packed centres that are kept, each worker in a share of the panels.

        What a share does not list is proven by its own limit, so the lesser of all holds for the joined lists.
        """
        n, count = self.centres.n_panels, min(workers.count, self.centres.n_panels)
        shares = [(n * i // count, n * (i + 1) // count) for i in range(count)]
        words = self._words(rows)
        lists = workers.each(lambda share: self._scanned(rows, words, *share), shares)
        return self._said(lists[0] if count == 1 else _beside(lists))


def _beside(lists: list[Candidates]) -> Candidates:
    """The candidates of the same rows among several shares of the centres, the most promising first."""
    indices = torch.cat([part.indices for part in lists], dim=1)
    excluded = torch.stack([part.excluded for part in lists]).amin(dim=0)
    if lists[0].at_least is None:
        return Candidates(indices, excluded)
    at_least = torch.cat([part.at_least for part in lists if part.at_least is not None], dim=1)
    at_least, order = at_least.masked_fill_(indices < 0, torch.inf).sort(dim=1)
    return Candidates(indices.gather(1, order), excluded, at_least)


def joined(lists: list[Candidates]) -> Candidates:
    """The candidates of several blocks of rows, with as many slots as the longest list needs."""
    n, width = sum(len(part.indices) for part in lists), max(part.indices.shape[1] for part in lists)
    indices = torch.full((n, width), -1, dtype=torch.int64, device="cpu")
    bounded = lists[0].at_least is not None
    at_least = torch.empty(n, width, dtype=torch.float64, device="cpu") if bounded else None
    first = 0
    for part in lists:
        rows, slots = slice(first, first + len(part.indices)), slice(part.indices.shape[1])
        indices[rows, slots] = part.indices
        if at_least is not None and part.at_least is not None:
            at_least[rows, slots] = part.at_least
        first = rows.stop
    return Candidates(indices, torch.cat([part.excluded for part in lists]), at_least)
