"""Derivatives of |x_i - c_j| of every order, over the pairs: bounded wherever they are, however small the distance.

Along directions e_1 .. e_m the m-th derivative of a norm |y| is |y|^(1 - m) times its value at the unit vector u:

    D^m |y| [e_1, .., e_m] = |y|^(1 - m)  sum over all ways to make j pairs {a, b} of the m directions
                              C(j, m - 2 j)  product of <p_a, p_b> over pairs  product of <u, e_s> over the others

with p = e - <u, e> u what stands across, and C(j, s) = (1)(-1)(-3)..(3 - 2 j)  (1 - 2 j)(0 - 2 j)..(2 - s - 2 j).
It follows from |u + sum t e| = sqrt(A^2 + B), A = 1 + sum t <u, e>, B = |sum t p|^2, by powers of B. So

    m = 1  <u, e>        m = 2  <p_1, p_2> / |y|        m = 3  -(<u, e_1> <p_2, p_3> + ..) / |y|^2

`values` gives D^m along m directions; `sums` leaves the last one open and adds up w D^(m+1)[e_1, .., e_m, .] by row,
and with the other sign by centre. They are each other's derivatives:

    values of gradient h       gives  sums(h; others) to a direction          sums(h; all) to the points
    sums of gradient (p, q)    gives  sums(w; others, p - q) to a direction   sums(w; all, p - q) to the points
                                      values(all, p - q) to w

Unit vectors are formed from differences divided by their largest coordinate, so no reciprocal of a distance is ever
formed, and what is 0 stays 0 where |y|^(1 - m) overflows. Where x_i = c_j, or a coordinate is infinite, all is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._neighbors.derivatives import few_pairs, pair_blocks
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs, add_by_centre
from janelia_core.ml._neighbors.derivatives.triton.kinds import LENGTHS, Vectors
from janelia_core.ml._neighbors.derivatives.triton.sums import sums_on_device
from janelia_core.ml._runtime.kernels import optional_kernels
from janelia_core.ml._runtime.machine import has_float64

_PER_COORDINATE = 12 * 8  # bytes of a pair's coordinate, beside those of its directions


@optional_kernels
def values(u: Tensor, v: Tensor, x: Tensor, c: Tensor, r: Tensor, pairs: Pairs, budget: int) -> Tensor:
    """Return the derivative of each pair's distance along m >= 1 directions, (n, k), 0 where the slot is empty.

    Args:
        u: (n, m, d); direction l of pair (i, j) is u[i, l] - v[j, l].
        v: (m_ctrs, m, d).
        x: (n, d) rows.
        c: (m_ctrs, d) centres.
        r: (n, k) distances, correctly rounded.
        pairs: Which meet.
        budget: Bytes of workspace.
    """
    if u.shape[1] == 1 and pair_blocks.fits(pairs.indices, u[:, 0], v[:, 0], x, c):
        return pair_blocks.norm_values(u[:, 0], v[:, 0], x, c, r, pairs)
    out = torch.zeros(pairs.indices.shape, dtype=r.dtype, device=x.device)
    if c.shape[0] == 0 or x.shape[1] == 0:
        return out
    for rows in pairs.chunks((_PER_COORDINATE + 24 * u.shape[1]) * x.shape[1], budget):
        j = pairs.centres(rows)
        near, j = r[rows].masked_fill(j < 0, 0), j.clamp(min=0)
        xi, cj = x[rows, None], c[j]
        if u.shape[1] == 1:
            out[rows] = _first(u[rows], v[j][:, :, 0], xi, cj, near)
        else:
            directions = _wide(u)[rows, None] - _wide(v)[j]
            out[rows] = _derivative(xi, cj, near, directions, False).to(r.dtype)
    return out


@optional_kernels
def sums(
    w: Tensor, u: Tensor, v: Tensor, x: Tensor, c: Tensor, r: Tensor, pairs: Pairs, budget: int
) -> tuple[Tensor, Tensor]:
    """Return the weighted sums (n, d) by row and (m_ctrs, d) by centre, as above, for m >= 0 directions.

    Args:
        w: (n, k) weights.
        u: (n, m, d); direction l of pair (i, j) is u[i, l] - v[j, l].
        v: (m_ctrs, m, d).
        x: (n, d) rows.
        c: (m_ctrs, d) centres.
        r: (n, k) distances, correctly rounded.
        pairs: Which meet.
        budget: Bytes of workspace.
    """
    if u.shape[1] < 2 and pair_blocks.fits(pairs.indices, w, x, c, *(t[:, 0] for t in (u, v) if t.shape[1])):
        return pair_blocks.norm_sums(w, u, v, x, c, r, pairs, budget)
    on_device = None if u.shape[1] else sums_on_device(Vectors(w[None], x, c, LENGTHS, r=r), pairs, budget)
    if on_device is not None:
        return on_device
    few = None if u.shape[1] else few_pairs.norm_sums(w, x, c, r, pairs, budget)
    if few is not None:
        return few
    dtype = result_dtype(x, c)
    by_row = torch.zeros(x.shape, dtype=dtype, device=x.device)
    by_centre = torch.zeros(c.shape, dtype=dtype, device=x.device)
    if c.shape[0] == 0 or x.shape[1] == 0:
        return by_row, by_centre
    each = (_PER_COORDINATE + 32 * u.shape[1]) * x.shape[1]
    for part in pairs.chunks(each, budget):
        j = pairs.centres(part)
        near, j = r[part].masked_fill(j < 0, 0), j.clamp(min=0)
        by_row[part] = _vectors(w[part], u[part, None], v[j], x[part, None], c[j], near).sum(1)
    for rows, slots, j in pairs.by_centre(each, budget):
        near = r[rows, slots].masked_fill(j < 0, 0)
        found = _vectors(w[rows, slots], u[rows], v[j], x[rows], c[j], near)
        add_by_centre(by_centre, j, found.neg_())
    return by_row, by_centre


def _first(u: Tensor, v: Tensor, x: Tensor, c: Tensor, r: Tensor) -> Tensor:
    """Return <u - v, unit vector> for u (r, 1, d), v (r, k, d), x (r, 1, d), c (r, k, d), r (r, k)."""
    dtype = r.dtype
    moves = r > 0
    product = ((u.to(dtype) - v.to(dtype)) * (x.to(dtype) - c.to(dtype))).sum(-1)
    out = torch.where(moves, product / torch.where(moves, r, 1), 0)
    extreme = moves & ~_ordinary(r, product)
    if bool(extreme.any()):
        e = (_wide(u) - _wide(v)).expand(*extreme.shape, -1)[extreme]
        out[extreme] = _inner(e, _polar(*_picked(extreme, x, c)).unit).to(dtype)
    return out


def _vectors(w: Tensor, u: Tensor, v: Tensor, x: Tensor, c: Tensor, r: Tensor) -> Tensor:
    """Return w times the open derivatives (..., d) of pairs: u, v (..., m, d), x, c (..., d), w, r (...)."""
    dtype = result_dtype(x, c)
    if u.shape[-2]:
        found = _derivative(x, c, r, _wide(u) - _wide(v), True)
        return torch.where(found == 0, 0, found * _wide(w)[..., None]).to(dtype)
    moves = r > 0
    quotient = torch.where(moves, w.to(r.dtype) / torch.where(moves, r, 1), 0)
    out = (x.to(dtype) - c.to(dtype)) * quotient.to(dtype)[..., None]
    extreme = moves & ~_ordinary(r, quotient)
    if bool(extreme.any()):
        unit = _polar(*_picked(extreme, x, c)).unit
        out[extreme] = torch.where(unit == 0, 0, unit * _wide(w[extreme])[:, None]).to(dtype)
    return out.masked_fill_(~moves[..., None], 0)


def _ordinary(r: Tensor, quotient: Tensor) -> Tensor:
    """Tell where neither r nor quotient comes near the ends of the format."""
    least, most, tiny = pair_blocks.limits(r.dtype)
    size = quotient.abs()
    return (r >= least) & (r <= most) & ((size == 0) | ((size >= tiny) & (size < torch.inf)))


def _picked(mask: Tensor, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    return x.expand(*mask.shape, x.shape[-1])[mask], c.expand(*mask.shape, c.shape[-1])[mask]


class _Polar(NamedTuple):
    """The distance a b (..., 1) and the unit vector (..., d); all are 0 where there is none."""

    unit: Tensor
    a: Tensor
    b: Tensor


def _polar(x: Tensor, c: Tensor) -> _Polar:
    x, c = _wide(x), _wide(c)
    most = torch.maximum(x.abs().amax(-1, keepdim=True), c.abs().amax(-1, keepdim=True))
    part = torch.where(most > torch.finfo(x.dtype).max / 16, 0.25, 1.0).to(x.dtype)
    gap = torch.where(torch.isfinite(most), x * part - c * part, 0)
    largest = gap.abs().amax(-1, keepdim=True)
    gap = gap / torch.where(largest > 0, largest, 1)
    norm = gap.square().sum(-1, keepdim=True).sqrt()
    return _Polar(gap / torch.where(norm > 0, norm, 1), largest, norm / part)


def _derivative(x: Tensor, c: Tensor, r: Tensor, directions: Tensor, is_open: bool) -> Tensor:
    """Return the derivative along directions (..., m, d): (...), or with one more that is left open (..., d)."""
    polar = _polar(x, c)
    unit, there = polar.unit, (polar.a > 0) & (r > 0)[..., None]
    a, b = (torch.where(there, part, 1) for part in polar[1:])
    along, across, sizes = [], [], []
    for e in directions.unbind(-2):
        e = torch.where(there, e, 0)
        size = e.abs().amax(-1, keepdim=True)
        e = e / torch.where(size > 0, size, 1)
        inner = _inner(e, unit)[..., None]
        along.append(inner)
        across.append(e - inner * unit)
        sizes.append(size)
    total = torch.zeros_like(unit if is_open else unit[..., :1])
    count = len(along)
    for pairs, singles in _matchings(list(range(count + is_open))):
        term = torch.full_like(total, _coefficient(len(pairs), len(singles)))
        for one, other in pairs:
            last = is_open and other == count
            term = term * (across[one] if last else _inner(across[one], across[other])[..., None])
        for single in singles:
            term = term * (unit if single == count else along[single])
        total = total + term
    # Sizes and distances come last, or what is to cancel would overflow before.
    for number, size in enumerate(sizes):
        total = _times(total, size / a / b if is_open or number > 0 else size)
    total = torch.where(there, total, 0)
    return total if is_open else total[..., 0]


def _times(one: Tensor, other: Tensor) -> Tensor:
    return torch.where((one == 0) | (other == 0), 0, one * other)


def _inner(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(-1)


def _matchings(items: list[int]) -> Iterator[tuple[list[tuple[int, int]], list[int]]]:
    """Yield all ways to make pairs of some items, whose terms do not vanish: the pairs and what is left."""
    if not items:
        yield [], []
        return
    head, *rest = items
    for pairs, singles in _matchings(rest):
        yield pairs, [head, *singles]
    for at, other in enumerate(rest):
        for pairs, singles in _matchings(rest[:at] + rest[at + 1 :]):
            yield [(head, other), *pairs], singles


def _coefficient(n_pairs: int, n_singles: int) -> int:
    of_pairs = math.prod(1 - 2 * t for t in range(n_pairs))
    return of_pairs * math.prod(1 - 2 * n_pairs - t for t in range(n_singles))


def _wide(t: Tensor) -> Tensor:
    """Return t in float64, where the device has it."""
    return t.to(torch.float64 if has_float64(t.device) else torch.float32)
