"""Problems that are hard to get right. Those that can carry their answer in closed form do."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.metrics.registry import METRICS
from janelia_core.ml._knn.screens.dense.formats import FORMATS
from janelia_core.ml._simd.dot_tiles import compiles

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


LOW_FORMATS = tuple(name for name in FORMATS if compiles(name) and name != "float32")
"""What the dense screen can multiply in here, below float32."""


class Problem(NamedTuple):
    x: Tensor
    ctrs: Tensor
    k: int
    answer: Tensor | None = None  # (k, n_smps), where it is known without any search


def gaussian(dtype: torch.dtype = torch.float32, n: int = 20, n_ctrs: int = 200, d: int = 6, k: int = 5) -> Problem:
    g = torch.Generator().manual_seed(1)
    x, c = (torch.randn(rows, d, generator=g, dtype=torch.float64) * 4 for rows in (n, n_ctrs))
    if dtype == torch.uint8:
        x, c = x.abs(), c.abs()
    return Problem(x.to(dtype), c.to(dtype), k)


def line(dtype: torch.dtype) -> Problem:
    """Centres 0 .. 99 on a line, x a quarter to the right of one: the order is j, j+1, j-1, j+2, ..."""
    ctrs = torch.arange(100, dtype=dtype)[:, None]
    at = torch.arange(10, 60)
    offsets = torch.tensor([0, 1, -1, 2, -2, 3])
    return Problem((at.to(torch.float64) + 0.25).to(dtype)[:, None], ctrs, 6, at[None, :] + offsets[:, None])


def lattice() -> Problem:
    """All points of a 7^3 lattice, asked at lattice points: the point itself, then six ties by lowest index."""
    side = 7
    grid = torch.cartesian_prod(*[torch.arange(side)] * 3)
    inner = ((grid > 0) & (grid < side - 1)).all(dim=1).nonzero()[:, 0]
    steps = torch.tensor([0, -side * side, -side, -1, 1, side, side * side])
    return Problem(grid[inner].float() * 0.5, grid.float() * 0.5, 7, inner[None, :] + steps[:, None])


def duplicates() -> Problem:
    """Thirty points, each stored seven times, far from any lattice: copies in index order."""
    g = torch.Generator().manual_seed(2)
    points = torch.randn(30, 5, generator=g)
    ctrs = points.repeat(7, 1)  # copy c of point p is centre 30 c + p
    return Problem(points, ctrs, 7, torch.arange(30)[None, :] + 30 * torch.arange(7)[:, None])


def one_ulp(dtype: torch.dtype) -> Problem:
    """Centres one unit in the last place apart around 1, asked at 3: nearest is the largest."""
    steps = torch.arange(60, dtype=torch.float64)
    ctrs = (1.0 + steps * torch.finfo(dtype).eps).to(dtype)[:, None].repeat(1, 3)
    ctrs = ctrs[torch.randperm(60, generator=torch.Generator().manual_seed(3))]
    answer = ctrs[:, 0].to(torch.float64).argsort(descending=True)[:8, None]
    return Problem(torch.full((1, 3), 3.0, dtype=dtype), ctrs, 8, answer)


def swapped_coordinates() -> Problem:
    """Exactly equal distances between different centres, of 80 bits: float64 squares cannot hold them."""
    g = torch.Generator().manual_seed(4)
    x = torch.zeros(3, 4, dtype=torch.float64)
    base = (torch.rand(4, generator=g, dtype=torch.float64) * 2**40).round() * 2**-40 + 1.0
    orders = torch.stack([torch.randperm(4, generator=g) for _ in range(80)])
    return Problem(
        x,
        base[orders] * (1 - 2 * (torch.rand(80, 4, generator=g) < 0.5).double()),
        9,
        torch.arange(9)[:, None].repeat(1, 3),
    )


def near_swapped() -> Problem:
    """As above, but some coordinates one ulp off: float64 sums tie or swap, the truth does not."""
    problem = swapped_coordinates()
    ctrs = problem.ctrs.clone()
    ctrs[::3, 1] = torch.nextafter(ctrs[::3, 1], torch.zeros((), dtype=torch.float64))
    ctrs[::5, 2] = torch.nextafter(ctrs[::5, 2], 9 * ctrs[::5, 2])
    return Problem(problem.x, ctrs, 9)


def far_offset() -> Problem:
    """Points around a million with a spread of a hundredth, in float32: the expanded form sees only noise."""
    g = torch.Generator().manual_seed(5)
    around = torch.tensor([1e6, -2e6, 3e6])
    return Problem(*((around + 1e-2 * 100 * torch.randn(n, 3, generator=g)).float() for n in (30, 300)), 5)


def mixed_scales(dtype: torch.dtype = torch.float64) -> Problem:
    """Centres of every magnitude from 1e-150 to 1e150 (1e-30 to 1e30 in float32)."""
    g = torch.Generator().manual_seed(6)
    reach = 150 if dtype == torch.float64 else 30
    magnitudes = 10.0 ** torch.linspace(-reach, reach, 120, dtype=torch.float64)[:, None]
    ctrs = (magnitudes * torch.randn(120, 3, generator=g, dtype=torch.float64)).to(dtype)
    return Problem(ctrs[torch.randperm(120, generator=g)[:20]] * 1.5, ctrs, 4)


def subnormals(dtype: torch.dtype) -> Problem:
    """Multiples of the smallest subnormal: every square underflows."""
    tiny = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    g = torch.Generator().manual_seed(7)
    x, c = (torch.randint(-40, 40, (n, 3), generator=g).to(torch.float64) for n in (12, 120))
    return Problem((x * tiny).to(dtype), (c * tiny).to(dtype), 4)


def overflow(dtype: torch.dtype) -> Problem:
    """Values near the largest finite one: squares overflow, distances as real numbers do not."""
    g = torch.Generator().manual_seed(8)
    largest = torch.finfo(dtype).max
    x, c = ((torch.rand(n, 3, generator=g, dtype=torch.float64) - 0.5) * 2 * largest for n in (10, 100))
    return Problem(x.to(dtype), c.to(dtype), 5)


def not_finite(dtype: torch.dtype) -> Problem:
    """Infinities and NaN in rows and centres, among ordinary ones."""
    g = torch.Generator().manual_seed(9)
    x, c = (torch.randn(n, 3, generator=g) for n in (24, 90))
    x[3, 0], x[4, 1], x[5, 2], x[6] = torch.inf, -torch.inf, torch.nan, torch.inf
    c[10, 0], c[11, 1], c[12, 2], c[13], c[0, 0] = torch.inf, -torch.inf, torch.nan, torch.inf, torch.nan
    return Problem(x.to(dtype), c.to(dtype), 6)


def few_finite() -> Problem:
    """k reaches beyond the finite centres into the infinite and undefined ones."""
    c = torch.full((80, 2), torch.inf)
    c[::2] = torch.nan
    c[40:43] = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    return Problem(torch.tensor([[0.0, 0.0], [9.0, 9.0]]), c, 50)


def wide_integers() -> Problem:
    """int64 values that float64 cannot tell apart."""
    g = torch.Generator().manual_seed(10)
    x, c = (2**60 + torch.randint(-50, 50, (n, 3), generator=g) for n in (10, 100))
    c[:20] -= 2**61
    return Problem(x, c, 6)


def one_giant_coordinate() -> Problem:
    problem = gaussian()
    ctrs = problem.ctrs.clone()
    ctrs[17, 3] = 1e30
    return Problem(problem.x, ctrs, 5)


def far_clusters() -> Problem:
    """Tight clusters far apart: huge norms, tiny gaps."""
    g = torch.Generator().manual_seed(11)
    where = torch.randn(8, 4, generator=g) * 1e5
    ctrs = (where.repeat(25, 1) + torch.randn(200, 4, generator=g) * 0.05).float()
    return Problem((where.repeat(3, 1) + torch.randn(24, 4, generator=g) * 0.05).float(), ctrs, 6)


def tiny_beside_one() -> Problem:
    """The smallest subnormals beside ones: what underflows when scaled is not on a lattice."""
    ctrs = torch.tensor([[1.0], [0.0], [5e-324], [1e-323], [-1.0]], dtype=torch.float64).repeat(20, 2)
    return Problem(torch.tensor([[5e-324, 1e-323], [0.0, 1.0]], dtype=torch.float64), ctrs.roll(1, 0), 50)


def near_tie_in_a_crowd() -> Problem:
    """Two centres whose distances differ by 2^-59, nearer than 1500 others: only exact arithmetic tells them apart."""
    g = torch.Generator().manual_seed(13)
    ctrs = torch.rand(1500, 2, generator=g) * 100 + 50
    ctrs[10], ctrs[20] = torch.tensor([1.0, 3 * 2.0**-30]), torch.tensor([1.0, 2 * 2.0**-30])
    return Problem(torch.zeros(1, 2), ctrs, 1, torch.tensor([[20]]))


def speck_on_a_lattice(dtype: torch.dtype) -> Problem:
    """A coarse lattice but for one subnormal coordinate, which any scaling loses: the tie is none."""
    g = torch.Generator().manual_seed(14)
    ctrs = (torch.randint(100, 1000, (900, 3), generator=g) * 16).to(dtype)
    ctrs[70] = torch.tensor([16.0, 5e-324 if dtype == torch.float64 else 1e-45, 0.0], dtype=dtype)
    ctrs[80] = torch.tensor([16.0, 0.0, 0.0], dtype=dtype)
    return Problem(torch.zeros(2, 3, dtype=dtype), ctrs, 1, torch.tensor([[80, 80]]))


def nearly_equidistant(n: int = 20, n_ctrs: int = 300) -> Problem:
    """Centres on a unit sphere, asked from close to its middle: float32 scores differ by a few units at most."""
    g = torch.Generator().manual_seed(12)
    ctrs = torch.nn.functional.normalize(torch.randn(n_ctrs, 12, generator=g), dim=1)
    return Problem(torch.randn(n, 12, generator=g) * 1e-6, ctrs, 3)


def all_equal() -> Problem:
    return Problem(torch.full((5, 3), 0.1), torch.full((300, 3), 0.1), 9, torch.arange(9)[:, None].repeat(1, 5))


PROBLEMS: dict[str, Callable[[], Problem]] = {
    **{f"gaussian-{t}": (lambda t=t: gaussian(t)) for t in (*FLOATS, *INTEGERS)},
    **{f"line-{t}": (lambda t=t: line(t)) for t in (torch.bfloat16, torch.float16, torch.float32, torch.float64)},
    "lattice": lattice,
    "duplicates": duplicates,
    **{f"one-ulp-{t}": (lambda t=t: one_ulp(t)) for t in FLOATS},
    "swapped-coordinates": swapped_coordinates,
    "near-swapped": near_swapped,
    "far-offset": far_offset,
    "mixed-scales-64": mixed_scales,
    "mixed-scales-32": lambda: mixed_scales(torch.float32),
    **{f"subnormals-{t}": (lambda t=t: subnormals(t)) for t in FLOATS},
    **{f"overflow-{t}": (lambda t=t: overflow(t)) for t in FLOATS},
    **{f"not-finite-{t}": (lambda t=t: not_finite(t)) for t in FLOATS},
    "few-finite": few_finite,
    "wide-integers": wide_integers,
    "one-giant-coordinate": one_giant_coordinate,
    "far-clusters": far_clusters,
    "nearly-equidistant": nearly_equidistant,
    "near-tie-in-a-crowd": near_tie_in_a_crowd,
    **{f"speck-on-a-lattice-{t}": (lambda t=t: speck_on_a_lattice(t)) for t in (torch.float32, torch.float64)},
    "tiny-beside-one": tiny_beside_one,
    "all-equal": all_equal,
}


def giant_centres() -> Problem:
    """Inner products of very different sizes: two centres dwarf the others and are nearly orthogonal to some rows."""
    x, ctrs, k, _ = gaussian(n=24)
    ctrs[7] *= 1e30
    ctrs[90] = 1e25 * torch.tensor([1.0, -1.0, 0.0, 0.0, 0.0, 0.0])
    x[::3, :2] = 1.5
    return Problem(x, ctrs, k)


def directions_that_tie(dtype: torch.dtype) -> Problem:
    """Vectors with copies times 2, 3 and -1, others one unit in the last place beside them, and zero vectors."""
    g = torch.Generator().manual_seed(15)
    base = torch.randint(-9, 9, (12, 4), generator=g).to(dtype) / 8
    near = base.clone()
    near[:, 2] = torch.nextafter(near[:, 2], near[:, 2] * 2 + 1)
    ctrs = torch.cat([base, 2 * base, near, 3 * base, -base, 0 * base, base / 4, near * 2])
    x = torch.cat([base[:8], 5 * near[:4], 0 * base[:1], torch.eye(4, dtype=dtype)])
    return Problem(x, ctrs[torch.randperm(len(ctrs), generator=g)], 9)


def nearly_parallel(dtype: torch.dtype = torch.float32) -> Problem:
    """Vectors around one direction, so close that float64 cosines tie or swap."""
    g = torch.Generator().manual_seed(16)
    around = torch.tensor([1.0, 2.0, -3.0, 0.5], dtype=torch.float64)
    x, ctrs = (around + 1e-7 * torch.randn(n, 4, generator=g, dtype=torch.float64) for n in (12, 150))
    return Problem(x.to(dtype), (ctrs * torch.rand(150, 1, generator=g)).to(dtype), 6)


def word_counts() -> Problem:
    """Small counts: equal cosines between different vectors, at any scale."""
    g = torch.Generator().manual_seed(17)
    return Problem(*(torch.randint(0, 3, (n, 5), generator=g).float() for n in (20, 300)), 12)


PROBLEMS |= {
    "giant-centres": giant_centres,
    **{f"directions-that-tie-{t}": (lambda t=t: directions_that_tie(t)) for t in (torch.float32, torch.float64)},
    **{f"nearly-parallel-{t}": (lambda t=t: nearly_parallel(t)) for t in (torch.float32, torch.float64)},
    "word-counts": word_counts,
}

NARROW = ("torch.bfloat16", "torch.float16", "torch.int8", "torch.int16", "torch.int32", "torch.uint8")
PLANE = [name for name, metric in METRICS.items() if not metric.columns]
"""The metrics of points of any number of coordinates."""

KINDS = [name for name in PROBLEMS if not name.endswith(NARROW)]
"""One or two dtypes of each problem, for tests of what does not depend on more; test_exactness asks all of them."""
