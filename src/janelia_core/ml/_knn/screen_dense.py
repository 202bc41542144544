"""The dense CPU screen: a low-precision matrix product with a proven error, scanned while still in cache.

Per row block and panel of centres, one `torch.mm` gives an upper bound of every score, and
`dense_kernels` keeps the centres whose bound reaches the k-th best lower bound met so far.

The score of centre c for row x is s = <x, c> - |c|^2 / 2, so that D = |x - c|^2 = |x|^2 - 2 s in real
arithmetic: nearest is largest. Both points are taken relative to the centres' mean (which changes no difference)
and multiplied by a power of two that puts the largest centre near 2^20, far from overflow and subnormals.

Derivation of the bound
-----------------------
Let u be the unit roundoff of the format (2^-24 float32, 2^-8 bfloat16), x^ and c^ the rounded points,
dx = x - x^, dc = c - c^, with measured norms rx >= |dx| and rc >= |dc|. Cauchy-Schwarz on the two terms of
<x, c> - <x^, c^> = <dx, c> + <x^, dc>  gives

    |<x, c> - <x^, c^>| <= rx |c| + |x^| rc.                                                            (1)

The product runs over W columns, the d coordinates and the extra ones below. Its float32 sums, in any order and with
or without fused multiply-adds, satisfy (Higham, Accuracy and Stability, 2nd ed., 3.5, for every bracketing)

    |P - sum_q x~_q c~_q| <= g sum_q |x~_q c~_q| + W t,   g = W v / (1 - W v),                           (2)

with v = 2^-24 (2^-23 is taken for bfloat16, whose hardware need not round each sum to nearest) and t = 2^-125 for
what underflows or is flushed to zero. Extra columns, x~ : c~ = 1 : h_j  and  a_i : e_j, carry the errors along:

    a_i >= |x^_i|,  a_i rho >= rx_i                  (rho = u (1 + 2^-10), so nearly always a_i = |x^_i|)
    e_j >= ((rho + g) N_j + rc_j) / (1 - g),         N_j >= |c_j|, |c^_j|
    h_j >= -|c_j|^2 / 2 + g |h_j| + W t              (in one part for float32, three for bfloat16)

so that a_i e_j (1 - g) outweighs (1) and the coordinates' share of (2), h_j its own share, and therefore

    P - 2 a_i e_j - g_j  <=  s  <=  P,    g_j >= h_j + |c_j|^2 / 2 + g |h_j| + W t.                      (3)

A bfloat16 *result* adds 2^-8 |P| on both sides (the kernels' `store`). If T is the k-th largest lower bound of a row,
centres with an upper bound below T are farther than k others; all that are not listed have s <= T, hence
D >= |x|^2 - 2 T, evaluated in float64 and rounded outwards.

Heavy tails stay harmless: the error is a product of a row's and a centre's own norms, never of two maxima.

Exact keys
----------
If all centres are multiples of one power of two (pixels, counts, lattices), points become integers and keys
multiples of 1/2. For a row on the same grid with |x| |c| + |c|^2 / 2 < 2^23 for all centres, every partial sum
in any order is a multiple of 1/2 below 2^23 and so exact: a_i = 0 switches the error columns off, the scan breaks
ties by the lowest index, and k centres with excluded = +inf are the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn import dense_kernels as kernels

PANEL = 256
"""Centres in one product: with ROWS rows a float32 tile of 256 KiB stays in a core's L2 cache."""
ROWS = 256
"""Rows in one product."""
UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}
SUM_UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-23}
PARTS = {torch.float32: 1, torch.bfloat16: 3}
"""Columns that hold h_j: each adds a format's bits, down to a remainder below the accumulation error."""
STORE = {torch.float32: 0.0, torch.bfloat16: 2.0**-8}
SLACK = {torch.float32: 16, torch.bfloat16: 48}
"""Candidates a row may keep beyond k + k / 2; measured needs for Gaussian data at d = 768: 1 and 15."""
TINY = 2.0**-125
UP = 1.0 + 2.0**-20
"""Outweighs all float64 roundings in a bound: sums of d <= 2^30 nonnegative terms and a few operations more."""
MAX_NORM = 2.0**60
"""Rows of a larger norm in the frame, where centres are at most near 2^20, go up the ladder: a sum may overflow."""


class Candidates(NamedTuple):
    """What a screen hands on; see the contract."""

    indices: Tensor
    excluded: Tensor


class Rounded(NamedTuple):
    """A block of points in a screen's format: values (r, d), and per point what (1) needs, as float64 (r,).

    Fields:
        values: (r, d) in the format; no subnormals.
        residual: At least the norm of point - values.
        norm: At least the norms of point and of values.
        square: |point|^2 as computed.
        square_error: At least its error.
        whole: (r,) bool; values are the point itself, and integers.
    """

    values: Tensor
    residual: Tensor
    norm: Tensor
    square: Tensor
    square_error: Tensor
    whole: Tensor


@dataclass(frozen=True)
class Frame:
    """Where points are taken: (u - shift) * scale, in a format.

    Fields:
        shift: (d,) float64.
        scale: A power of two.
        whole: The centres are integers in this frame, and so is the shift.
        dtype: float32 or bfloat16.
        relative_error: Bound of the relative error each coordinate of u comes with.
    """

    shift: Tensor
    scale: float
    whole: bool
    dtype: torch.dtype
    relative_error: float

    def round(self, u: Tensor) -> Rounded:
        """Rounds a block of points and measures what is lost."""
        wide = u.double() * self.scale
        moved = wide - self.shift * self.scale
        square = (moved * moved).sum(1)
        norm = square.sqrt()
        values = moved.to(self.dtype)
        values[values.abs() < 2.0**-126] = 0  # a product may flush them: here the loss is measured
        back = values.double()
        # The subtraction rounds each coordinate once; between integers of this size it does not.
        lost = 2.0**-53 * norm + TINY
        whole = torch.zeros_like(norm, dtype=torch.bool)
        if self.whole:
            whole = (wide == wide.round()).all(1) & (norm < 2.0**24) & (moved == back).all(1)
            lost[whole] = 0
        if self.relative_error:
            lost += self.relative_error * _norm(wide)
        residual = (_norm(moved - back) + lost) * UP
        square_error = ((u.shape[1] + 2) * 2.0**-53 * square + 2 * norm * lost + lost * lost) * UP
        square_error[whole] = 0
        norm = torch.maximum(norm, _norm(back)) * UP + lost
        return Rounded(values, residual, norm, square, square_error, whole)


def _norm(points: Tensor) -> Tensor:
    return torch.linalg.vector_norm(points, dim=1)


def find_frame(u_ctrs: Tensor, dtype: torch.dtype, relative_error: float) -> Frame:
    """Centres the frame on the centres' mean; on their grid if they have one that float32 holds exactly."""
    largest = max(abs(float(bound)) for bound in u_ctrs.aminmax())
    shift = u_ctrs.mean(0, dtype=torch.float64)
    d = u_ctrs.shape[1]
    step = find_grid(u_ctrs) if dtype == torch.float32 and relative_error == 0 else 0.0
    if step:
        return Frame((shift / step).round() * step, 1.0 / step, True, dtype, 0.0)
    exponent = int(np.frexp(largest * d**0.5)[1]) if largest else 0
    return Frame(shift, 2.0 ** min(20 - exponent, 1000), False, dtype, relative_error)


def find_grid(u_ctrs: Tensor) -> float:
    """A power of two that divides every coordinate with quotients below 2^22, or 0.0 if there is none."""
    if not u_ctrs.is_floating_point():
        return 1.0 if max(abs(int(bound)) for bound in u_ctrs.aminmax()) < 2**22 else 0.0
    n_ctrs = u_ctrs.shape[0]
    sample = u_ctrs[:: max(1, n_ctrs // 64)].double().numpy().ravel()
    sample = sample[sample != 0]
    if sample.size == 0:
        return 1.0
    mantissa, exponent = np.frexp(sample)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    step_exponent = int((exponent - 53 + np.frexp((whole & -whole).astype(np.float64))[1] - 1).min())
    step = 2.0**step_exponent if -1000 < step_exponent < 1000 else 0.0
    if not step or max(abs(float(bound)) for bound in u_ctrs.aminmax()) / step >= 2**22:
        return 0.0
    for block in u_ctrs.split(max(1, 2**18 // u_ctrs.shape[1])):
        quotient = block.double() / step
        if not bool((quotient == quotient.round()).all()):
            return 0.0
    return step


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
        u_ctrs: (n_ctrs, d) finite centres, any real dtype.
        k: How many centres are wanted, 1 <= k <= n_ctrs.
        dtype: Format of the product, float32 or bfloat16.
        relative_error: Bound of the relative error of each coordinate of the points, 0.0 for values as stored.
        pack_bytes: How many bytes packed centres may take; beyond, each call packs panel by panel.

    Memory:
        Packed centres, or one panel a call; 8 bytes a centre; per row of a call (d + 3) words of the format, its
        buffer of `capacity` pairs and a tile's row: see `row_bytes`.
    """

    row_order: Tensor | None = None

    def __init__(
        self,
        u_ctrs: Tensor,
        k: int,
        dtype: torch.dtype = torch.float32,
        relative_error: float = 0.0,
        pack_bytes: int = 2**62,
    ) -> None:
        self.k, self.dtype, self._u_ctrs = k, dtype, u_ctrs
        self.n_ctrs, d = u_ctrs.shape
        self.frame = find_frame(u_ctrs, dtype, relative_error)
        self.n_panels = -(-self.n_ctrs // PANEL)
        self.width = d + PARTS[dtype] + 1 + self.frame.whole
        self.cap = k + SLACK[dtype] + k // 2
        self.capacity = self.cap + 16 + k // 2
        unit = SUM_UNIT[dtype]
        self.gamma = self.width * unit / (1.0 - self.width * unit)
        self.errs = np.zeros((self.n_panels * PANEL, 2), np.float32)
        self.largest = 0.0
        keep = self.n_panels * PANEL * self.width * dtype.itemsize <= pack_bytes
        self._panels = torch.empty(self.n_panels if keep else 1, self.width, PANEL, dtype=dtype)
        self._kept = False
        for panel in range(self.n_panels):
            self._pack(panel, self._panels[panel if keep else 0])
        self._kept = keep

    def row_bytes(self) -> int:
        """Bytes a call takes for each of its rows, beyond the rows handed in."""
        d = self._u_ctrs.shape[1]
        return 3 * 8 * d + self.width * self.dtype.itemsize + self.capacity * 8 + PANEL * self.dtype.itemsize + 64

    def _members(self, panel: int) -> slice:
        """Positions of a panel's centres: a run on a grid, where ties want ascending order, else every n-th.

        A strided sample meets near and far centres alike, so the first panels already leave tight thresholds
        even when the centres are sorted.
        """
        if self.frame.whole:
            return slice(panel * PANEL, min((panel + 1) * PANEL, self.n_ctrs))
        return slice(panel, self.n_ctrs, self.n_panels)

    def _pack(self, panel: int, out: Tensor) -> None:
        """Writes a panel, (width, PANEL): coordinates, h_j, slack on a grid, e_j. Unused columns score -inf."""
        points = self.frame.round(self._u_ctrs[self._members(panel)])
        n, d = points.values.shape
        half = points.square / 2
        own = self.gamma * 1.1 * half + points.square_error + self.width * TINY
        error = ((UNIT[self.dtype] * (1 + 2.0**-10) + self.gamma) * points.norm + points.residual) / (1 - self.gamma)
        columns = [points.values]
        if self.frame.whole:
            level = (-half).to(self.dtype)
            slack = round_up(own + (half + level.double()).abs(), self.dtype)
            columns += [level[:, None], slack[:, None]]
            total = level.double() + slack.double()
        else:
            parts = split_up(own - half, self.dtype)
            columns += [part[:, None] for part in parts]
            total = torch.stack(parts).double().sum(0)
        reach = round_up(error * UP, self.dtype)
        columns.append(reach[:, None])
        out[:, n:] = 0
        out[d, n:] = -torch.inf
        out[:, :n] = torch.cat(columns, 1).T
        if self._kept:
            return
        self.largest = max(self.largest, float(points.norm.max()))
        errs = torch.stack([reach.double(), ((total + half).clamp(min=0) + own) * UP], 1)
        self.errs[panel * PANEL : panel * PANEL + n] = round_up(errs, torch.float32).numpy()

    def candidates(self, x_rows: Tensor) -> Candidates:
        """Lists, for each row of x_rows (r, d), centres of which none left out can be among its k nearest.

        Returns:
            Candidates: indices (r, w) int64, -1 where a row has fewer; excluded (r,) float64.
        """
        blocks = [_RowBlock(self, rows) for rows in x_rows.split(ROWS)]
        tile = torch.empty(min(ROWS, x_rows.shape[0]), PANEL, dtype=self.dtype)
        flat = tile.view(torch.uint16 if self.dtype == torch.bfloat16 else self.dtype).numpy().reshape(-1)
        scan = kernels.scan_bfloat16 if self.dtype == torch.bfloat16 else kernels.scan_float32
        spare = None if self._kept else torch.empty_like(self._panels[0])
        for panel in range(self.n_panels):
            if spare is None:
                packed = self._panels[panel]
            else:
                packed = spare
                self._pack(panel, packed)
            for block in blocks:
                r = block.points.shape[0]
                torch.mm(block.points, packed, out=tile[:r])
                scan(flat, PANEL, panel * PANEL, self.k, self.cap, block.rows, self.errs)
        lists = [block.finish(self) for block in blocks]
        width = max(listed.indices.shape[1] for listed in lists)
        indices = [
            torch.nn.functional.pad(listed.indices, (0, width - listed.indices.shape[1]), value=-1)
            for listed in lists
        ]
        return Candidates(torch.cat(indices), torch.cat([listed.excluded for listed in lists]))

    def original(self, packed: np.ndarray) -> np.ndarray:
        """Positions in u_ctrs of packed positions."""
        if self.frame.whole:
            return packed.astype(np.int64)
        return packed.astype(np.int64) % PANEL * self.n_panels + packed // PANEL


class _RowBlock:
    """Up to ROWS rows on their way through the panels: their columns of the product and their shortlist."""

    def __init__(self, screen: DenseScreen, rows: Tensor) -> None:
        points = screen.frame.round(rows)
        r = rows.shape[0]
        unit = UNIT[screen.dtype] * (1 + 2.0**-10)
        exact = points.whole & (points.norm * screen.largest + screen.largest**2 / 2 < 2.0**23)
        reach = round_up(torch.maximum(points.norm, points.residual / unit) * UP, screen.dtype)
        self.lost = ~(reach < MAX_NORM)
        reach[exact | self.lost] = 0
        points.values[self.lost] = 0
        ones = torch.ones(r, PARTS[screen.dtype], dtype=screen.dtype)
        columns = [points.values, ones, reach[:, None]]
        if screen.frame.whole:
            columns.insert(2, (~exact).to(screen.dtype)[:, None])
        self.points = torch.cat(columns, 1)
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
        """The lists and what they prove: D >= |x|^2 - 2 limit, rounded down."""
        width = kernels.finish(screen.k, screen.cap, STORE[screen.dtype], self.rows, screen.errs)
        listed = screen.original(self.rows.ids[:, :width])
        listed[np.arange(width) >= self.rows.count[:, None]] = -1
        limit = torch.from_numpy(self.rows.limit)
        excluded = self.square - 2 * limit
        excluded -= 2.0**-51 * (self.square.abs() + 2 * limit.abs())
        excluded /= screen.frame.scale**2
        excluded[self.exact] = torch.inf
        excluded[self.lost] = -torch.inf
        return Candidates(torch.from_numpy(listed), excluded)
