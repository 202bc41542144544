"""Data for the fuzz: families of points, each a function of a generator and of the sizes (n, n_ctrs, d)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

Size = tuple[int, int, int]
Pair = tuple[Tensor, Tensor]

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def normal(g: Generator, *shape: int) -> Tensor:
    """Draw float64 normal numbers."""
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def whole(g: Generator, low: int, high: int, *shape: int) -> Tensor:
    """Draw whole numbers, as float64."""
    return torch.randint(low, high, shape, generator=g).double()


def one_of(g: Generator, *choices: object) -> object:
    """Draw one of several things."""
    return choices[int(torch.randint(0, len(choices), (), generator=g))]


def gaussian(g: Generator, size: Size) -> Pair:
    """Points as they come, now and then far from the origin."""
    n, n_ctrs, d = size
    middle = one_of(g, 0.0, 0.0, 1e3, 1e7)
    return normal(g, n, d) + middle, normal(g, n_ctrs, d) + middle


def tenths(g: Generator, size: Size) -> Pair:
    """Multiples of 1/10: lattices in all but their last bits."""
    n, n_ctrs, d = size
    most = one_of(g, 3, 10, 100)
    return whole(g, 0, most, n, d) / 10, whole(g, 0, most, n_ctrs, d) / 10


def tiny(g: Generator, size: Size) -> Pair:
    """Ordinary points times a power of two that squares, or the numbers themselves, do not survive."""
    n, n_ctrs, d = size
    powers = [torch.tensor(one_of(g, 2.0**-500, 2.0**-540, 2.0**-1022, 2.0**500), dtype=torch.float64) for _ in "xc"]
    powers[1] = powers[0] if one_of(g, True, True, False) else powers[1]
    return normal(g, n, d) * powers[0], normal(g, n_ctrs, d) * powers[1]


def subnormal(g: Generator, size: Size) -> Pair:
    """Values near 2^-1070: whole numbers of the smallest subnormal."""
    n, n_ctrs, d = size
    most = one_of(g, 8, 1000, 2**20)
    return whole(g, -most, most, n, d) * 2.0**-1074, whole(g, -most, most, n_ctrs, d) * 2.0**-1074


def near_ties(g: Generator, size: Size) -> Pair:
    """Centres in bulk that differ in their last bits, around one point or around a few."""
    n, n_ctrs, d = size
    few = int(one_of(g, 1, 1, 5))
    middles, eps = normal(g, few, d), one_of(g, 2.0**-52, 2.0**-23)
    ctrs = middles[torch.arange(n_ctrs) % few] * (1 + whole(g, -3, 4, n_ctrs, d) * eps)
    x = normal(g, n, d)
    return (middles[torch.arange(n) % few] + 1e-3 * x if one_of(g, True, False) else x), ctrs


def on_a_sphere(g: Generator, size: Size) -> Pair:
    """Centres at one distance from the middle, which is where the rows are."""
    n, n_ctrs, d = size
    ctrs = torch.nn.functional.normalize(normal(g, n_ctrs, d), dim=1)
    return normal(g, n, d) * one_of(g, 1e-3, 1e-9, 1e-16, 0.0), ctrs


def copies(g: Generator, size: Size) -> Pair:
    """Few points, each stored many times, some of them rows."""
    n, n_ctrs, d = size
    points = normal(g, int(one_of(g, 1, 3, 40)), d)
    chosen, asked = (torch.randint(0, len(points), (many,), generator=g) for many in (n_ctrs, n))
    return points[asked] if one_of(g, True, False) else normal(g, n, d), points[chosen]


def heavy_tails(g: Generator, size: Size) -> Pair:
    """A few coordinates are larger than all others by orders of magnitude."""
    n, n_ctrs, d = size
    power = one_of(g, 5, 15)
    return tuple(v * v.abs() ** power for v in (normal(g, n, d), normal(g, n_ctrs, d)))


def not_finite(g: Generator, size: Size) -> Pair:
    """NaN and infinities of both signs, in some values or in most, and zeros for them to meet."""
    x, ctrs = gaussian(g, size)
    for points in (x, ctrs):
        share = one_of(g, 0.0, 0.001, 0.02, 0.5)
        where = torch.rand(points.shape, generator=g) < share
        points[where] = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0], dtype=torch.float64)[
            torch.randint(0, 4, (int(where.sum()),), generator=g)
        ]
    return x, ctrs


def clusters(g: Generator, size: Size) -> Pair:
    """Tight clusters far apart."""
    n, n_ctrs, d = size
    middles, spread = normal(g, 8, d) * one_of(g, 1.0, 1e5), one_of(g, 1e-2, 1e-8)
    return tuple(middles[torch.arange(rows) % 8] + spread * normal(g, rows, d) for rows in (n, n_ctrs))


def lattice(g: Generator, size: Size) -> Pair:
    """Whole numbers times one step: ties everywhere, and all of them exact."""
    n, n_ctrs, d = size
    most, step = one_of(g, 2, 5, 300), one_of(g, 1.0, 0.25, 2.0**-30)
    return whole(g, -most, most, n, d) * step, whole(g, -most, most, n_ctrs, d) * step


def overflowing(g: Generator, size: Size) -> Pair:
    """Values so large that squares overflow, and now and then only the sums of some of them."""
    x, ctrs = gaussian(g, size)
    power = 2.0 ** one_of(g, 508, 510, 511, 700, 1018)
    return x * power, ctrs * power


def lonely_giant(g: Generator, size: Size) -> Pair:
    """One row and one centre dwarf the others."""
    x, ctrs = gaussian(g, size)
    x[0] *= one_of(g, 1.0, 1e200, 1e-200)
    ctrs[-1] *= one_of(g, 1e30, 1e250, 1e-250)
    return x, ctrs


FAMILIES: tuple[Callable[[Generator, Size], Pair], ...] = (
    gaussian, tenths, tiny, subnormal, near_ties, on_a_sphere, copies, heavy_tails, not_finite, clusters, lattice,
    overflowing, lonely_giant,
)  # fmt: skip


def cast(g: Generator, pair: Pair) -> Pair:
    """Store both sides in dtypes of their own, mostly alike: floats as they are, integers over their range."""
    floats = (torch.float64, torch.float64, torch.float32, torch.float32, torch.float32, torch.float16, torch.bfloat16)
    one = one_of(g, *floats, *INTEGERS) if one_of(g, True, False, False) else one_of(g, *floats[:5])
    other = one if one_of(g, True, True, True, False) else one_of(g, *floats, *INTEGERS)
    return _stored(pair[0], one), _stored(pair[1], other)


def _stored(values: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype.is_floating_point:
        return values.to(dtype)
    info = torch.iinfo(dtype)
    size = float(values.nan_to_num(0.0, 0.0, 0.0).abs().max())
    scaled = values.nan_to_num(0.0, 0.0, 0.0) / (size or 1.0) * (info.max / 2)
    stored = scaled.round().to(torch.int64)
    return (stored.abs() if info.min == 0 else stored).to(dtype)
