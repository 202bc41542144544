"""Distances are the true ones, rounded once: compared with multi-precision arithmetic bit by bit."""

from __future__ import annotations

import math
from fractions import Fraction

import hypothesis.strategies as st
import mpmath
import pytest
import torch
from hypothesis import given

from janelia_core.ml._knn.arithmetic.rounding import rounded
from janelia_core.ml._knn.arithmetic.to_float32 import round_root, round_value
from janelia_core.ml._knn.distances import work as module
from janelia_core.ml._knn.distances.distances import distances
from janelia_core.ml._knn.distances.off_cpu import off_cpu
from janelia_core.ml._knn.distances.rounding_kernels import round_plain
from janelia_core.ml._knn.metrics.dot import Dot
from janelia_core.ml._knn.metrics.registry import metric_named
from problems import FLOATS, INTEGERS, PLANE, PROBLEMS, gaussian

FORMATS = {torch.float32: (24, -149, 2.0**128), torch.float64: (53, -1074, math.inf)}


def true_distance(metric: str, x: list, c: list, dtype: torch.dtype) -> float:
    """Return the distance to 5000 bits, then to the nearest number of the dtype; IEEE rules where not finite."""
    products = [a * b for a, b in zip(map(float, x), map(float, c), strict=True)]
    gaps = [float(a) - float(b) for a, b in zip(x, c, strict=True)]
    if not all(math.isfinite(v) for v in (*x, *c)):
        if metric == "cosine":
            return math.nan
        terms = products if metric == "dot" else [abs(gap) for gap in gaps]
        wild = [t for t, a, b in zip(terms, x, c, strict=True) if not (math.isfinite(a) and math.isfinite(b))]
        return -sum(wild) if metric == "dot" else sum(wild)
    with mpmath.workprec(9000):
        a, b = [mpmath.mpf(v) for v in x], [mpmath.mpf(v) for v in c]
        s = mpmath.fdot(a, b)
        if metric == "dot":
            truth = -s
        elif metric == "cosine":
            norms = mpmath.sqrt(mpmath.fdot(a, a) * mpmath.fdot(b, b))
            truth = 1 - (s / norms if norms else 0)
        elif metric in ("manhattan", "chebyshev"):
            sizes = [abs(p - q) for p, q in zip(a, b, strict=True)]
            truth = mpmath.fsum(sizes) if metric == "manhattan" else max(sizes)
        else:
            truth = mpmath.fsum((p - q) ** 2 for p, q in zip(a, b, strict=True))
            truth = mpmath.sqrt(truth) if metric == "euclidean" else truth
        precision, least, top = FORMATS[dtype]
        unit = mpmath.mpf(2) ** max(mpmath.frexp(truth)[1] - precision, least)
        truth = mpmath.nint(truth / unit) * unit  # nint: ties to even
        return float(truth) if abs(truth) < top else math.copysign(math.inf, truth)


def assert_all_true(x, ctrs, indices, metric, got=None):
    got = distances(x, ctrs, indices, metric) if got is None else got
    assert got.dtype == (torch.float64 if any(is_double(v) for v in (x, ctrs)) else torch.float32)
    rows, centres = x.tolist(), ctrs.tolist()
    for i, row in enumerate(rows):
        for slot, j in enumerate(indices[i].tolist()):
            wanted = math.inf if j < 0 else true_distance(metric, row, centres[j], got.dtype)
            found = float(got[i, slot])
            assert found == wanted or (math.isnan(found) and math.isnan(wanted)), (i, j, found, wanted)
            assert found != 0 or math.copysign(1, found) == 1  # zero is +0


def is_double(v):
    return v.dtype in (torch.float64, torch.int64, torch.uint64)


def pairs_of(n, n_ctrs, k=6):
    return torch.randint(-1, n_ctrs, (n, k), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("metric", PLANE)
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_distance_is_the_true_one_rounded_once(name, metric):
    x, ctrs, _, _ = PROBLEMS[name]()
    assert_all_true(x[:5], ctrs, pairs_of(min(5, len(x)), len(ctrs)), metric)


@pytest.mark.parametrize("metric", PLANE)
@pytest.mark.parametrize("kernels", [False, True])
def test_every_way_of_computing_gives_the_same_bits(metric, kernels, monkeypatch):
    if not kernels:
        monkeypatch.setattr(module, "_KERNEL_DTYPES", ())
    for name in (
        "gaussian-torch.float64",
        "near-swapped",
        "overflow-torch.float32",
        "not-finite-torch.float64",
        "duplicates",
    ):
        x, ctrs, _, _ = PROBLEMS[name]()
        x = x[:10]
        indices = pairs_of(len(x), len(ctrs))
        expected = torch.cat([distances(x[i : i + 1], ctrs, indices[i : i + 1], metric) for i in range(len(x))])
        for chunk in (1, 29):
            with monkeypatch.context() as patch:
                patch.setattr(module, "_CHUNK", chunk)
                got = distances(x, ctrs, indices, metric)
            torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
        for memory in (1 << 12, 1 << 22):
            got = off_cpu(x, ctrs, indices, metric_named(metric), expected.dtype, memory, None)
            torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("metric", PLANE)
@pytest.mark.parametrize("c_dtype", [*FLOATS, *INTEGERS, torch.uint64, torch.bool])
@pytest.mark.parametrize("x_dtype", [torch.float32, torch.float64, torch.float16, torch.uint8])
def test_mixed_dtypes_are_compared_by_stored_value(x_dtype, c_dtype, metric):
    x, ctrs = gaussian(x_dtype, n=4).x, gaussian(torch.float32, n_ctrs=30).ctrs.abs().to(c_dtype)
    assert_all_true(x, ctrs, pairs_of(4, 30), metric)


@pytest.mark.parametrize("metric", PLANE)
def test_scaled_opposite_zero_and_nearly_parallel_vectors(metric):
    g = torch.Generator().manual_seed(1)
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(4, 5, generator=g, dtype=dtype)
        x[3] = 0
        near = x.repeat(3, 1)
        near[:, 1] = torch.nextafter(near[:, 1], near[:, 1] * 2)
        ctrs = torch.cat([x, 2 * x, -x, 3 * x, near, 0 * x, torch.eye(5, dtype=dtype)])
        assert_all_true(x, ctrs, torch.arange(len(ctrs)).expand(4, -1), metric)


numbers = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(width=32),
    st.floats(),
    st.sampled_from(
        [1.0, 1.0 + 2**-52, 1.0 - 2**-53, 1e308, 5e-324, 1e-160, 1e16, 0.1, 2.0**-149, 4097.0, 2.0**24 + 2]
    ),
)


@given(st.data(), st.integers(1, 4), st.sampled_from([torch.float32, torch.float64]), st.sampled_from(PLANE))
def test_any_pair_of_hard_numbers(data, d, dtype, metric):
    points = st.lists(st.lists(numbers, min_size=d, max_size=d), min_size=2, max_size=4)
    x, ctrs = (torch.tensor(data.draw(points), dtype=torch.float64).to(dtype) for _ in range(2))
    assert_all_true(x, ctrs, torch.arange(len(ctrs)).expand(len(x), -1), metric)


def test_midpoints_of_the_format_go_to_even():
    """Integers whose squares lie half-way between two float32 numbers."""
    x = torch.tensor([[4097.0, 0.0], [4099.0, 1.0], [8193.0, 2.0]])
    ctrs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 4096.0]])
    assert_all_true(x, ctrs, torch.arange(3).expand(3, -1), "sqeuclidean")
    assert_all_true(x, ctrs, torch.arange(3).expand(3, -1), "dot")


def test_a_loosened_error_is_caught(monkeypatch):
    """Were float64 believed to be exact, some float32 result would be rounded the wrong way."""
    x = torch.tensor([[2.0**60, 1.0, 2.0**-24, -(2.0**60)]])
    ctrs = torch.ones(1, 4)
    indices = torch.zeros(1, 1, dtype=torch.int64)
    assert_all_true(x, ctrs, indices, "dot")
    honest = Dot.pair_values
    monkeypatch.setattr(module, "_KERNEL_DTYPES", ())
    monkeypatch.setattr(Dot, "pair_values", lambda *a: (honest(*a)[0], torch.zeros(1, 1, dtype=torch.float64)))
    with pytest.raises(AssertionError):
        assert_all_true(x, ctrs, indices, "dot")


@pytest.mark.parametrize("metric", PLANE)
def test_compensated_sums_are_within_their_error_and_round_right(metric):
    """Many pairs of float64, of which each compensated kernel decides nearly all."""
    g = torch.Generator().manual_seed(3)
    for d in (1, 7, 40):
        x, ctrs = (
            torch.randn(n, d, generator=g, dtype=torch.float64) * 10.0 ** torch.randint(-9, 9, (n, d)) for n in (4, 60)
        )
        ctrs[::3] = ctrs[::3] + x[0]
        assert_all_true(x, ctrs, torch.arange(60).expand(4, -1), metric)


def test_no_pairs_no_coordinates_no_neighbours():
    assert distances(torch.zeros(0, 3), torch.zeros(4, 3), torch.zeros(0, 2, dtype=torch.int64)).shape == (0, 2)
    assert distances(torch.zeros(3, 2), torch.zeros(4, 2), torch.zeros(3, 0, dtype=torch.int64)).shape == (3, 0)
    got = distances(torch.zeros(2, 0), torch.zeros(4, 0), torch.tensor([[0, -1], [3, 1]]))
    assert got.tolist() == [[0.0, math.inf], [0.0, 0.0]]
    for dtype in (torch.float32, torch.float64, torch.int64):
        none = torch.zeros(4, 0, dtype=dtype)
        assert distances(none[:2], none, torch.tensor([[0], [3]]), "cosine").tolist() == [[1.0], [1.0]]
        assert distances(none[:1], none, torch.tensor([[0, -1]]), "dot").tolist() == [[0.0, math.inf]]


@pytest.mark.parametrize("root", [False, True])
def test_the_compiled_rounding_claims_nothing_that_is_wrong_and_nearly_all_that_torch_does(root):
    g = torch.Generator().manual_seed(3)
    sizes = 2.0 ** torch.randint(-160, 120, (4000, 5), generator=g).double()
    value = torch.rand(4000, 5, generator=g, dtype=torch.float64) * sizes
    error = value * 2.0 ** torch.randint(-60, -20, (4000, 5), generator=g).double()
    value[:9], error[:5], error[5:9] = 0.0, 0.0, 2.0**-1021
    value[9], error[9] = torch.nan, torch.nan
    value[10], error[10] = torch.inf, torch.nan
    found = [round_value(v, e, root) for v, e in zip(value.view(-1).tolist(), error.view(-1).tolist(), strict=True)]
    out, certain = (torch.tensor(part).view(4000, 5) for part in zip(*found, strict=True))
    expected, known = rounded(value, error, root)
    assert torch.equal(out[certain & known], expected[certain & known])
    ends = [(value + sign * error).clamp(min=0) for sign in (-1, 1)]
    ends = [(end.sqrt() if root else end).float() for end in ends]
    assert (ends[0] == ends[1])[certain].all()
    assert certain[:9].all()
    assert not certain[9:11].any()
    normal = expected >= torch.finfo(torch.float32).smallest_normal
    assert (certain & known & normal).sum() > 0.999 * (known & normal).sum()


@pytest.mark.parametrize("relative", [2.0**-50, 2.0**-40, 2.0**-28])
def test_a_root_claimed_certain_is_the_rounded_root_of_both_ends(relative):
    g = torch.Generator().manual_seed(4)
    claimed = 0
    for _ in range(1000):
        size = int(torch.randint(-320, 280, (1,), generator=g))
        near = float(torch.rand(1, generator=g)) + 1.0  # a float32; halfway to the next one, the root is in doubt
        halfway = near * (1 + 2.0**-24) if float(torch.rand(1, generator=g)) < 0.5 else near
        square = math.ldexp(halfway * halfway, size)
        out, certain = round_root(square, relative)
        claimed += certain
        if certain:
            ends = [Fraction(square) * (1 + sign * Fraction(relative)) for sign in (-1, 1)]
            assert [rounded_root(end) for end in ends] == [out, out]
    assert claimed > 300


@pytest.mark.parametrize("root", [False, True])
def test_rounding_many_at_once_claims_what_rounding_one_does(root):
    g = torch.Generator().manual_seed(5)
    near = 1 + torch.randint(0, 1 << 23, (3000,), generator=g).double() * 2.0**-23
    near[::2] += 2.0**-24 * (1 + 2.0 ** -torch.randint(20, 50, (1500,), generator=g).double())  # beside halfway
    square = (near * near if root else near) * 2.0 ** (2 * torch.randint(-60, 60, (3000,), generator=g)).double()
    square[:6] = torch.tensor([0.0, math.inf, math.nan, 1e-300, 1e300, 2.0**-298])
    out, certain = torch.empty(3000), torch.empty(3000, dtype=torch.bool)
    relative = 2.0**-45
    n = round_plain(root, relative, *(part.numpy() for part in (square, out, certain)))
    one = [round_value(value, value * relative + 2.0**-1000, root) for value in square.tolist()]
    expected, known = (torch.tensor(part) for part in zip(*one, strict=True))
    assert n == int(certain.sum())
    assert torch.equal(out[certain], expected[certain])
    assert known[certain].all()
    assert not certain[:4].any()
    assert certain.sum() > 0.95 * known.sum() > 1000


def rounded_root(square: Fraction) -> float:
    """The square root of a fraction, rounded to float32; the middle rounds to even or is never met."""
    root = Fraction(math.isqrt((square.numerator << 4000) // square.denominator), 1 << 2000)
    if root >= 2**128 - 2**103:
        return math.inf
    exponent = max(-126, math.frexp(float(root))[1] - 1) - 23
    return float(round(root / Fraction(2) ** exponent) * Fraction(2) ** exponent)
