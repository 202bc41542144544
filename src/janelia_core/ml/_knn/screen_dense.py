"""The dense CPU screen: a low-precision matrix product with a proven error, scanned while still in cache.

Per row block and panel of centres, one `torch.mm` gives an upper bound of every score, and
`dense_kernels` keeps the centres whose bound reaches the k-th best lower bound met so far.

The score of centre c for row x is s = <x, c> - |c|^2 / 2, so that D = |x - c|^2 = |x|^2 - 2 s in real
arithmetic: nearest is largest. Both points are taken relative to a mean of centres (which changes no
difference) and multiplied by a power of two that puts the largest centre near 2^20, far from overflow and
subnormals.

Derivation of the bound
-----------------------
Let u be the unit roundoff of the format (2^-24 float32, 2^-8 bfloat16), x^ and c^ the rounded points,
dx = x - x^, dc = c - c^, with measured norms rx >= |dx| and rc >= |dc|. Cauchy-Schwarz on the two terms of
<x, c> - <x^, c^> = <dx, c> + <x^, dc>  gives

    |<x, c> - <x^, c^>| <= rx |c| + |x^| rc.                                                            (1)

The product runs over W columns, the d coordinates and the extra ones below. Its float32 sums, in any order
and with or without fused multiply-adds, satisfy (Higham, Accuracy and Stability, 2nd ed., 3.5, for every
bracketing)

    |P - sum_q x~_q c~_q| <= g sum_q |x~_q c~_q| + W t,   g = W v / (1 - W v),                           (2)

with v = 2^-24 (2^-23 for bfloat16, whose hardware need not round each sum to nearest) and t = 2^-125 for
what underflows or is flushed to zero. Extra columns, x~ : c~ = 1 : h_j  and  a_i : e_j, carry the errors
along:

    a_i >= |x^_i|,  a_i rho >= rx_i                  (rho = u (1 + 2^-10), so nearly always a_i = |x^_i|)
    e_j >= ((rho + g) N_j + rc_j) / (1 - g),         N_j >= |c_j|, |c^_j|
    h_j >= -|c_j|^2 / 2 + g |h_j| + W t              (in one part for float32, three for bfloat16)

so that a_i e_j (1 - g) outweighs (1) and the coordinates' share of (2), h_j its own share, and therefore

    P - 2 a_i e_j - g_j  <=  s  <=  P,    g_j >= h_j + |c_j|^2 / 2 + g |h_j| + W t.                      (3)

A bfloat16 *result* adds 2^-8 |P| on both sides (the kernels' `store`). If T is the k-th largest lower bound
of a row, centres with an upper bound below T are farther than k others; all that are not listed have s <= T,
hence D >= |x|^2 - 2 T, evaluated in float64 and rounded outwards.

Heavy tails stay harmless: the error is a product of a row's and a centre's own norms, never of two maxima.

Inner products and cosines
--------------------------
For -<x, c> the score is <x, c>: h_j is only what pays for W t, no point is shifted, and centres not listed have
-<x, c> >= -T. For 1 - cos the points are directions, whose own error goes into the residuals, and 1 - cos >= 1 - T.

Exact keys
----------
If all centres are multiples of one power of two (pixels, counts, lattices), points become integers and keys
multiples of 1/2. For a row on the same grid with |x| |c| + |c|^2 / 2 < 2^23 for all centres, every partial
sum in any order is a multiple of 1/2 below 2^23 and so exact: a_i = 0 switches the error columns off, the
scan breaks ties by the lowest index, and k centres with excluded = +inf are the answer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.ml._knn import dense_kernels as kernels
from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.dense_frame import SUM_UNIT, TINY, UNIT, UP, Measured, find_frame, frame_of_directions
from janelia_core.ml._knn.metrics import EUCLIDEAN
from janelia_core.ml._knn.points import Points
from janelia_core.ml._knn.workers import Workers

IdArray = npt.NDArray[np.int64]
PANEL = 256
"""Centres in one product, fewer where memory is tight (a multiple of 64, what a scan compares at a time)."""
ROWS = 256
"""Rows in one product: a float32 tile of 256 KiB stays in a core's L2 cache."""
PACKED_AT_ONCE = 32
"""Panels packed together, so that the arithmetic on norms costs no call per panel."""
MEASURED_AT_ONCE = 4
"""The same where panels are not kept: memory is tight, and the arithmetic has a dozen temporaries in float64."""
PARTS = {torch.float32: 1, torch.bfloat16: 3}
"""Columns that hold h_j: each adds a format's bits, down to a remainder below the accumulation error."""
STORE = {torch.float32: 0.0, torch.bfloat16: 2.0**-8}
SLACK = {torch.float32: 16, torch.bfloat16: 48}
"""Candidates a row may keep beyond k + k / 2; Gaussian data at d = 768 needed 3 and 42 at most."""
MAX_NORM = 2.0**60
"""Rows of a larger norm in the frame go up the ladder, as a sum may overflow (centres: about 2^20)."""


def round_up(bound: Tensor, dtype: torch.dtype) -> Tensor:
    """Nonnegative float64 bounds in a format, never smaller."""
    return (bound * (1.0 + 4.0 * UNIT[dtype]) + TINY).to(dtype)


def split_up(target: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Parts in a format whose exact sum is at least the float64 target, and close to it."""
    parts = []
    rest = target.clone()
    for _ in range(PARTS[dtype] - 1):
        parts.append(rest.to(dtype))
        rest -= parts[-1].double()
    parts.append((rest + 2.0 * UNIT[dtype] * rest.abs() + TINY).to(dtype))
    return parts


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
        dtype: torch.dtype = torch.float32,
        relative_error: float = 0.0,
        pack_bytes: int = 2**62,
        workers: Workers | None = None,
        panel: int = PANEL,
        metric: str = "euclidean",
    ) -> None:
        self.k, self.dtype, self._ctrs, self._panel = k, dtype, ctrs, panel
        self.metric, self._product = metric, metric not in EUCLIDEAN
        self.n_ctrs, d = len(ctrs), ctrs.d
        workers = workers or Workers(1)
        if metric == "cosine":
            self.frame = frame_of_directions(d, dtype)
        else:
            self.frame = workers.once(lambda: find_frame(ctrs, dtype, relative_error, self._product))
        self.n_panels = -(-self.n_ctrs // panel)
        self.width = d + PARTS[dtype] + 1 + self.frame.whole
        self.cap = k + SLACK[dtype] + k // 2
        self.capacity = self.cap + 16 + k // 2
        unit = SUM_UNIT[dtype]
        self.gamma = self.width * unit / (1.0 - self.width * unit)
        self.errs = np.zeros((self.n_panels * panel, 2), np.float32)
        keep = self.n_panels * panel * self.width * dtype.itemsize <= pack_bytes
        self._panels = torch.empty(self.n_panels if keep else 0, self.width, panel, dtype=dtype, device="cpu")
        # What stands below the coordinates is kept in any case: it takes longer to find than to round the points.
        below = (self.n_panels, self.width - d, panel)
        self._below = self._panels[:, d:] if keep else torch.empty(below, dtype=dtype, device="cpu")
        self._kept = keep
        self._group = PACKED_AT_ONCE if keep else MEASURED_AT_ONCE
        packed = workers.each(self._pack, range(0, self.n_panels, self._group))
        self.largest = max(norm for norm, _ in packed)
        self.whole = self.frame.whole and all(whole for _, whole in packed)

    def _members(self, panel: int) -> tuple[int, int, int]:
        """Positions of a panel's centres: a run on a grid, where ties want ascending order, else every n-th.

        A strided sample meets near and far centres alike, so the first panels already leave tight thresholds
        even when the centres are sorted.
        """
        if self.frame.whole:
            return panel * self._panel, min((panel + 1) * self._panel, self.n_ctrs), 1
        return panel, self.n_ctrs, self.n_panels

    def _pack(self, first: int) -> tuple[float, bool]:
        """Fills a group of panels from `first` on where they are kept, what stands below them, and errs.

        Returns the largest norm, and whether all centres are made of integers.

        Rows of a panel: coordinates, h_j, slack on a grid, e_j. Unused columns score -inf.
        """
        p, d, size = min(self._group, self.n_panels - first), self._ctrs.d, self._panel
        spare = torch.empty(0 if self._kept else d, size, dtype=self.dtype, device="cpu")
        sums = np.zeros((p, size, 5))
        unused = torch.ones(p, size, dtype=torch.bool, device="cpu")
        for panel in range(p):
            n = self._round(first + panel, self._panels[first + panel] if self._kept else spare, sums[panel])
            unused[panel, :n] = False
        measured = self.frame.measure(d, sums.reshape(-1, 5))
        reach, levels, gap = self._bound(measured)
        rows = torch.stack([*levels, reach])
        rows[0, unused.reshape(-1)] = -torch.inf
        self._below[first : first + p] = rows.reshape(-1, p, size).transpose(0, 1)
        errs = round_up(torch.stack([reach.double(), gap * UP], 1), torch.float32)
        self.errs[first * size : (first + p) * size] = errs.numpy()
        return float(measured.norm.max()), bool((measured.whole | unused.reshape(-1)).all())

    def _round(self, panel: int, out: Tensor, sums: npt.NDArray[np.float64]) -> int:
        """Rounds a panel's points into the first rows of out, with their sums; returns how many there are."""
        points = self._ctrs.block(*self._members(panel))
        n, d = points.shape
        self.frame.round(points, out[:d, :n], sums[:n])
        out[:d, n:] = 0
        return n

    def _bound(self, points: Measured) -> tuple[Tensor, list[Tensor], Tensor]:
        """e_j and the parts of h_j in the format, and g_j, of centres."""
        half = torch.zeros_like(points.square) if self._product else points.square / 2
        own = self.gamma * 1.1 * half + (self.width + 4) * TINY
        own += 0.0 if self._product else points.square_error
        spread = UNIT[self.dtype] * (1 + 2.0**-10) + self.gamma
        reach = round_up((spread * points.norm + points.residual) / (1 - self.gamma) * UP, self.dtype)
        if self.frame.whole:
            level = (-half).to(self.dtype)
            levels = [level, round_up(own + (half + level.double()).abs(), self.dtype)]
        else:
            levels = split_up(own - half, self.dtype)
        total = torch.stack(levels).double().sum(0)
        return reach, levels, (total + half).clamp(min=0) + own

    def candidates(self, x_rows: Tensor) -> Candidates:
        """Lists, for each row of x_rows (r, d), centres of which none left out can be among its k nearest.

        Returns:
            Candidates: indices (r, w) int64, -1 where a row has fewer; excluded (r,) float64.
        """
        blocks = [_RowBlock(self, x_rows[first : first + ROWS]) for first in range(0, x_rows.shape[0], ROWS)]
        tile = torch.empty(min(ROWS, x_rows.shape[0]), self._panel, dtype=self.dtype, device="cpu")
        flat = tile.view(torch.uint16 if self.dtype == torch.bfloat16 else self.dtype).numpy().reshape(-1)
        scan = kernels.scan_bfloat16 if self.dtype == torch.bfloat16 else kernels.scan_float32
        spare = torch.empty(0 if self._kept else self.width, self._panel, dtype=self.dtype, device="cpu")
        sums = np.empty((self._panel, 5))
        for panel in range(self.n_panels):
            packed = self._panels[panel] if self._kept else spare
            if not self._kept:
                self._round(panel, packed, sums)
                packed[self._ctrs.d :] = self._below[panel]
            for block in blocks:
                r = block.points.shape[0]
                torch.mm(block.points, packed, out=tile[:r])
                scan(flat, self._panel, panel * self._panel, self.k, self.cap, block.rows, self.errs)
        lists = [block.finish(self) for block in blocks]
        width = max(listed.indices.shape[1] for listed in lists)
        indices = [
            torch.nn.functional.pad(listed.indices, (0, width - listed.indices.shape[1]), value=-1) for listed in lists
        ]
        row_numbers = self._ctrs.row_numbers(torch.cat(indices))
        return Candidates(row_numbers, torch.cat([listed.excluded for listed in lists]))

    def original(self, packed: IdArray) -> IdArray:
        """Positions among the centres of packed positions."""
        position = packed.astype(np.int64)
        if not self.frame.whole:
            position = position % self._panel * self.n_panels + position // self._panel
        return position


class _RowBlock:
    """Up to ROWS rows on their way through the panels: their columns of the product and their shortlist."""

    def __init__(self, screen: DenseScreen, rows: Tensor) -> None:
        r, d = rows.shape
        columns, sums = torch.empty(screen.width, r, dtype=torch.float32, device="cpu"), np.empty((r, 5))
        screen.frame.round(rows, columns[:d], sums)
        points = screen.frame.measure(d, sums)
        unit = UNIT[screen.dtype] * (1 + 2.0**-10)
        exact = points.whole & screen.whole & (points.norm * screen.largest + screen.largest**2 / 2 < 2.0**23)
        reach = round_up(torch.maximum(points.norm, points.residual / unit) * UP, screen.dtype)
        self.lost = ~(reach < MAX_NORM)
        reach[exact | self.lost] = 0
        columns[:d, self.lost] = 0
        columns[d:-1] = 1
        if screen.frame.whole:
            columns[-2] = (~exact).float()
        columns[-1] = reach
        self.points = columns.T.to(screen.dtype, memory_format=torch.contiguous_format, copy=True)
        # |x|^2 rounded down, in the frame.
        self.square = points.square - points.square_error
        self.exact = exact
        self.rows = kernels.Shortlist(
            threshold=np.full(r, np.finfo(np.float32).min),
            limit=np.full(r, -np.inf),
            reach=reach.double().numpy(),
            exact=exact.numpy(),
            count=np.zeros(r, np.int64),
            keys=np.empty((r, screen.capacity), np.float32),
            ids=np.empty((r, screen.capacity), np.int32),
        )

    def finish(self, screen: DenseScreen) -> Candidates:
        """The lists and what they prove: the order value of a score of at most limit, rounded down."""
        width = kernels.finish(screen.k, screen.cap, STORE[screen.dtype], self.rows, screen.errs)
        listed = screen.original(self.rows.ids[:, :width])
        listed[np.arange(width) >= self.rows.count[:, None]] = -1
        limit = torch.from_numpy(self.rows.limit)
        if screen.metric == "cosine":
            limit = limit / screen.frame.scale / screen.frame.scale
            excluded = 1.0 - limit
            excluded -= 2.0**-51 * (1.0 + limit.abs())
        else:
            excluded = -limit if screen.metric == "dot" else self.square - 2 * limit
            excluded -= 2.0**-51 * (self.square.abs() + 2 * limit.abs())
            excluded = excluded / screen.frame.scale / screen.frame.scale
        excluded[self.exact] = torch.inf
        excluded[self.lost] = -torch.inf
        return Candidates(torch.from_numpy(listed), excluded)
