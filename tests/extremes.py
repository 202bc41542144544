"""Problems at the ends of a dtype's range: every exponent, alone and mixed, with near-ties and copies among them.

A problem is a shape of moderate numbers (`SHAPES`) times powers of two (`SCALES`); both are drawn from one seed. What
is rounded where that leaves the range is stored, and what is stored is the problem.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
LIMITS = {  # of the exponents of a dtype: of its smallest subnormal number, and of its largest binade
    torch.float64: (-1074, 1023),
    torch.float32: (-149, 127),
    torch.float16: (-24, 15),
    torch.bfloat16: (-133, 127),
}


MOST = 4_000  # n * n_ctrs * d


class Extreme(NamedTuple):
    """Rows, centres, how many are wanted, and what the problem is, in words."""

    x: Tensor
    ctrs: Tensor
    k: int
    name: str


Size = tuple[int, int, int]  # n, n_ctrs, d
Pair = tuple[Tensor, Tensor]


def normal(g: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def whole(g: Generator, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=g).double()


def _nudges(g: Generator, *shape: int) -> Tensor:
    """Draw units in the last place: few or some, of few or all coordinates."""
    most, share = int(torch.randint(1, 4, (), generator=g)), (0.3, 1.0)[int(torch.randint(0, 2, (), generator=g))]
    return whole(g, -most, most + 1, *shape) * (torch.rand(*shape, generator=g) < share)


def gaussian(g: Generator, size: Size, ulp: float) -> Pair:
    n, n_ctrs, d = size
    return normal(g, n, d), normal(g, n_ctrs, d)


def near_ties(g: Generator, size: Size, ulp: float) -> Pair:
    """Centres that differ in their last bits, asked from anywhere."""
    n, n_ctrs, d = size
    return normal(g, n, d), normal(g, 1, d) * (1 + _nudges(g, n_ctrs, d) * ulp)


def near_ties_in_a_crowd(g: Generator, size: Size, ulp: float) -> Pair:
    """A third of the centres are nearly one, and nearest: the others can be excluded."""
    x, ctrs = near_ties(g, size, ulp)
    far = torch.rand(len(ctrs), generator=g) < 2 / 3
    ctrs[far] = normal(g, int(far.sum()), size[2]) / 2
    return (x.abs(), torch.where(far[:, None], -ctrs.abs(), ctrs.abs())) if size[0] % 2 else (x, ctrs)


def at_the_centres(g: Generator, size: Size, ulp: float) -> Pair:
    """Rows a few units in the last place beside centres that are as near to one another."""
    n, n_ctrs, d = size
    middle = normal(g, 1, d)
    return middle * (1 + whole(g, -9, 9, n, d) * ulp), middle * (1 + 3 * _nudges(g, n_ctrs, d) * ulp)


def copies(g: Generator, size: Size, ulp: float) -> Pair:
    """Centres stored several times; with cosines, also their multiples by powers of two."""
    n, n_ctrs, d = size
    few = normal(g, 1 + n_ctrs // 4, d)
    chosen = torch.randint(0, len(few), (n_ctrs,), generator=g)
    powers = torch.where(torch.rand(n_ctrs, 1, generator=g) < 0.3, 2.0, 1.0)
    return normal(g, n, d), few[chosen] * powers


def lattice(g: Generator, size: Size, ulp: float) -> Pair:
    n, n_ctrs, d = size
    return whole(g, -3, 4, n, d), whole(g, -3, 4, n_ctrs, d)


def swapped(g: Generator, size: Size, ulp: float) -> Pair:
    """One point's coordinates in another order, with other signs, some of them one unit off, asked from around 0."""
    n, n_ctrs, d = size
    base = 1 + (torch.rand(d, generator=g, dtype=torch.float64) / ulp).round() * ulp
    order = torch.rand(n_ctrs, d, generator=g).argsort(dim=1)
    signs = 1 - 2 * (torch.rand(n_ctrs, d, generator=g) < 0.5).double()
    nudge = 1 + ulp * (torch.rand(n_ctrs, d, generator=g) < 0.1).double()
    x = torch.where(torch.rand(n, 1, generator=g) < 0.5, 0.0, 1.0) * torch.ones(n, d, dtype=torch.float64)
    return x, base[order] * signs * nudge


def ones(g: Generator, size: Size, ulp: float) -> Pair:
    """Coordinates of size 1 but for a few units in the last place, of any sign, asked from 0 and from the like."""
    n, n_ctrs, d = size
    x = (1 + _nudges(g, n, d) * ulp) * whole(g, -1, 2, n, 1)
    signs = 1 - 2 * (torch.rand(n_ctrs, 1, generator=g) < 0.3).double()
    return x, (1 + _nudges(g, n_ctrs, d) * ulp) * signs


SHAPES: tuple[Callable[[Generator, Size, float], Pair], ...] = (
    gaussian, near_ties, near_ties_in_a_crowd, at_the_centres, copies, lattice, swapped, ones,
)  # fmt: skip


def _power(g: Generator, low: int, high: int, *shape: int) -> Tensor:
    """Draw exponents: anywhere, or near the places where squares, products and norms leave the range."""
    wide = torch.randint(low, high + 1, shape, generator=g)
    marks = torch.tensor([low, low, low // 2, low // 2, low // 4, 0, high // 4, high // 2, high // 2, high, high])
    chosen = marks[torch.randint(0, len(marks), shape, generator=g)] + torch.randint(-6, 7, shape, generator=g)
    return torch.where(torch.rand(shape, generator=g) < 0.5, wide, chosen).clamp(low, high)


def _alike(g: Generator, pair: Pair, low: int, high: int) -> Pair:
    power = _power(g, low, high, 1, 1)
    return tuple(_times(v, power) for v in pair)


def _apart(g: Generator, pair: Pair, low: int, high: int) -> Pair:
    return tuple(_times(v, _power(g, low, high, 1, 1)) for v in pair)


def _row_by_row(g: Generator, pair: Pair, low: int, high: int) -> Pair:
    return tuple(_times(v, _power(g, low, high, len(v), 1)) for v in pair)


def _one_ordinary(g: Generator, pair: Pair, low: int, high: int) -> Pair:
    """All are tiny or huge but one row, one centre, or one of each."""
    x, ctrs = _apart(g, pair, low, high)
    which = int(torch.randint(0, 3, (), generator=g))
    if which != 1:
        x[-1] = pair[0][-1]
    if which != 0:
        ctrs[-1] = pair[1][-1]
    return x, ctrs


def _column_by_column(g: Generator, pair: Pair, low: int, high: int) -> Pair:
    """Coordinates of different sizes; now and then so that products of the two are alike again."""
    power = _power(g, low, high, 1, pair[0].shape[1])
    other = -power if torch.rand((), generator=g) < 0.5 else power
    return _times(pair[0], other.clamp(low, high)), _times(pair[1], power)


def _value_by_value(g: Generator, pair: Pair, low: int, high: int) -> Pair:
    return tuple(_times(v, _power(g, low, high, *v.shape)) for v in pair)


def _at_a_threshold(g: Generator, pair: Pair, low: int, high: int) -> Pair:
    """Sums of d squares, or of d products, of numbers near 1 come out around where a dtype ends or gets subnormal."""
    ends = [*LIMITS.values(), (-1022, 0), (-126, 0)]
    end = ends[int(torch.randint(0, len(ends), (), generator=g))][int(torch.randint(0, 2, (), generator=g))]
    total = end - round(math.log2(pair[0].shape[1])) + int(torch.randint(-3, 4, (), generator=g))
    apart = int(torch.randint(-40, 41, (), generator=g)) * int(torch.randint(0, 2, (), generator=g))
    own = torch.tensor([[total // 2 + apart], [total - total // 2 - apart]]).clamp(low, high)
    return _times(pair[0], own[:1]), _times(pair[1], own[1:])


SCALES = (_alike, _apart, _row_by_row, _one_ordinary, _column_by_column, _value_by_value, _at_a_threshold)


def _times(values: Tensor, power: Tensor) -> Tensor:
    """Return values 2^power, rounded once where that is subnormal (torch.ldexp makes the power a float32)."""
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.ldexp(values.numpy(), power.numpy()))


def problem(seed: int, dtype: torch.dtype | None = None) -> Extreme:
    """Return the problem of a seed; seeds in a row take turns through shapes and scales."""
    g = torch.Generator().manual_seed(seed)
    shape, scale = SHAPES[seed % len(SHAPES)], SCALES[seed // len(SHAPES) % len(SCALES)]
    draws = torch.rand(4, generator=g).tolist()
    dtype = dtype or (DTYPES[0] if draws[0] < 0.5 else DTYPES[1 + int(draws[0] * 6) % 3])
    n_ctrs, d = (2, 3, 40, 150)[int(draws[2] * 4)], (1, 2, 3, 4, 8, 11, 16)[int(draws[3] * 7)]
    n = 1 + int(draws[1] * min(200, MOST / (n_ctrs * d)))
    low, high = LIMITS[dtype]
    ulp = torch.finfo(dtype).eps * (1 if draws[0] < 0.4 else 2)
    x, ctrs = scale(g, shape(g, (n, n_ctrs, d), ulp), low, high)
    top = torch.finfo(dtype).max
    x, ctrs = (v.nan_to_num(0.0, top, -top).clamp(-top, top).to(dtype) for v in (x, ctrs))
    k = min(n_ctrs, (1, 1, 2, 3, 8, n_ctrs // 2)[int(draws[0] * 600) % 6] or 1)
    name = f"seed {seed}: {shape.__name__} {scale.__name__.strip('_')} {dtype} {n} x {n_ctrs} x {d}, k = {k}"
    return Extreme(x, ctrs, k, name)
