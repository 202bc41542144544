"""All centres within a radius, and no others: the boundary is decided exactly, whatever finds them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fresh_process
from janelia_core.ml import CenterIndex, RadiusNeighbors, knn, radius, radius_count
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.registry import METRICS, metric_named
from janelia_core.ml._knn.radius import ragged
from janelia_core.ml._knn.radius.look import expected_members
from janelia_core.ml.neighbors import radius_graph
from oracle import exact_order, points
from problems import KINDS, PROBLEMS, lattice

PLANE = [name for name in METRICS if name != "haversine"]  # that has tests of its own

ASKED = [
    (name, metric) for i, name in enumerate(KINDS) for metric in dict.fromkeys(["euclidean", PLANE[i % len(PLANE)]])
]


def true_members(x: Tensor, ctrs: Tensor, r: list[float], metric: str) -> list[list[int]]:
    """Return the members of each row, nearest first, by exact arithmetic of the distances and of the radius."""
    rows, centres = points(x.tolist(), ctrs.tolist())
    return [
        [
            j
            for j in exact_order(row, centres, len(centres), metric)
            if is_within(x[i].tolist(), ctrs[j].tolist(), r[i], metric)
        ]
        for i, row in enumerate(rows)
    ]


def is_within(x: list, c: list, r: float, metric: str) -> bool:
    """Tell whether a distance is at most r."""
    if not all(math.isfinite(v) for v in (*x, *c)):
        return beyond(x, c, metric) <= r
    if math.isinf(r):
        return r > 0
    a, b = ([Fraction(v) for v in row] for row in (x, c))
    limit, gaps = Fraction(r), [abs(p - q) for p, q in zip(a, b, strict=True)]
    product = sum((p * q for p, q in zip(a, b, strict=True)), Fraction(0))
    if metric == "cosine":
        squares, least = sum(p * p for p in a) * sum(q * q for q in b), 1 - limit
        return least <= 0 if squares == 0 else product * abs(product) >= least * abs(least) * squares
    square = sum((gap * gap for gap in gaps), Fraction(0))
    return {
        "euclidean": square <= limit * limit,
        "sqeuclidean": square <= limit,
        "dot": -product <= limit,
        "manhattan": sum(gaps, Fraction(0)) <= limit,
        "chebyshev": max(gaps, default=Fraction(0)) <= limit,
    }[metric]


def beyond(x: list, c: list, metric: str) -> float:
    """Return the distance of rows that are not finite, as IEEE has it."""
    if metric == "cosine" or any(math.isnan(v) for v in (*x, *c)):
        return math.nan
    if metric == "dot":
        return -sum(p * q for p, q in zip(x, c, strict=True) if not (math.isfinite(p) and math.isfinite(q)))
    return math.nan if any(math.isinf(p) and p == q for p, q in zip(x, c, strict=True)) else math.inf


def lists(found: RadiusNeighbors) -> list[list[int]]:
    return [part.tolist() for part in found.indices.split(found.counts.tolist())]


def radii_at(x: Tensor, ctrs: Tensor, metric: str) -> list[Tensor]:
    """Return radii (n,) that are distances, as float64 and float32 round them, and one ulp to either side; 0, inf."""
    k = max(1, min(len(ctrs), 7))
    far = knn(x.double(), ctrs.double(), k=k, metric=metric).distances[:, -1]
    far = torch.where(torch.isfinite(far), far, 1.0)
    up, down = (torch.nextafter(far, torch.full_like(far, end)) for end in (math.inf, -math.inf))
    radii = [far, up, down, far.float(), torch.zeros_like(far), torch.full_like(far, math.inf)]
    return radii if metric == "dot" else [r.clamp(min=0) for r in radii]


@pytest.mark.parametrize(("name", "metric"), ASKED)
def test_all_that_are_within_are_found_and_no_others(name: str, metric: str) -> None:
    x, ctrs, *_ = PROBLEMS[name]()
    x, ctrs = x[:2], ctrs[:40]
    for r in radii_at(x, ctrs, metric):
        found = radius(x, ctrs, r, metric=metric)
        assert lists(found) == true_members(x, ctrs, r.double().tolist(), metric)
        assert torch.equal(radius_count(x, ctrs, r, metric=metric), found.counts)
        near = knn(x, ctrs, k=len(ctrs), metric=metric, r=r)
        assert [row[: len(row) - row.count(-1)] for row in near.indices.tolist()] == lists(found)


@pytest.mark.parametrize("metric", PLANE)
@pytest.mark.parametrize(("d", "dtype"), [(3, torch.float32), (24, torch.float64)])
def test_the_answer_is_the_same_whatever_finds_it(metric: str, d: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(d)
    x, ctrs = torch.randn(150, d, generator=g).to(dtype), torch.randn(3000, d, generator=g).to(dtype)
    ctrs[2000:2100], x[:20] = ctrs[:100], ctrs[:20]  # copies, and rows upon them
    known = knn(x, ctrs, k=200, metric=metric)
    r = known.distances[:, 40].double()
    expected = knn(x, ctrs, k=200, metric=metric, r=r)
    found = radius(x, ctrs, r, metric=metric)
    assert int((expected.indices >= 0).sum()) == len(found.indices) < 200 * 150
    assert torch.equal(found.padded(200).indices, expected.indices)
    assert torch.equal(found.padded(200).distances, expected.distances)
    index = CenterIndex(ctrs, metric=metric)
    grown = (
        CenterIndex(ctrs[:1500], metric=metric).with_rows(ctrs[1500:]).with_rows(x).without(3000 + torch.arange(150))
    )
    others = [
        radius(x, ctrs, r, metric=metric, max_memory=1 << 20),
        radius(x, ctrs, r, metric=metric, m=100),
        radius(x, ctrs, r, metric=metric, max_neighbors=200),
        radius(x, ctrs, r, metric=metric, mask=torch.ones(150, 3000, dtype=torch.bool)),
        radius(x, ctrs, r, metric=metric, mask=lambda rows, a, b: torch.ones(len(rows), b - a, dtype=torch.bool)),
        radius(torch.stack([x, x]), ctrs, r[None].expand(2, -1), metric=metric),
        index.radius(x, r),
        grown.radius(x, r),
        grown.radius(x, r, max_neighbors=200),
    ]
    for other in others:
        assert lists(other)[:150] == lists(found)
        assert torch.equal(other.distances[: len(found.distances)], found.distances)
    assert torch.equal(index.knn(x, 200, r=r).indices, expected.indices)
    by_index = radius(x, ctrs, r, metric=metric, sort_by="index")
    assert lists(by_index) == [sorted(row) for row in lists(found)]
    shuffled = torch.randperm(150, generator=g)
    assert lists(radius(x[shuffled], ctrs, r[shuffled], metric=metric)) == [lists(found)[i] for i in shuffled.tolist()]


def test_lattices_are_decided_without_integers() -> None:
    x, ctrs, *_ = lattice()
    assert radius_count(x, ctrs, r=0.5).tolist() == [7] * len(x)
    assert radius_count(x, ctrs, r=math.nextafter(0.5, 0)).tolist() == [1] * len(x)
    root = math.sqrt(0.5)  # below the true root; the next one is above
    assert Fraction(root) ** 2 > Fraction(1, 2)
    assert radius_count(x, ctrs, r=root).tolist() == [19] * len(x)
    assert radius_count(x, ctrs, r=math.nextafter(root, 0)).tolist() == [7] * len(x)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_radius_that_is_a_sum_of_squares_of_any_size_is_decided(data: st.DataObject) -> None:
    exponent = data.draw(st.integers(-1060, 1000))
    values = st.integers(-(2**20), 2**20).map(lambda v: math.ldexp(v, exponent - 20))
    rows = data.draw(st.lists(st.lists(values, min_size=2, max_size=2), min_size=2, max_size=6))
    x, ctrs = torch.tensor(rows[:1], dtype=torch.float64), torch.tensor(rows[1:], dtype=torch.float64)
    metric = data.draw(st.sampled_from(["euclidean", "manhattan", "chebyshev"]))
    far = float(knn(x, ctrs, k=1, metric=metric).distances[0, 0])
    for r in (far, math.nextafter(far, 0), math.nextafter(far, math.inf)):
        assert lists(radius(x, ctrs, r, metric=metric)) == true_members(x, ctrs, [r], metric)


def test_batches_meet_their_own_centres_alone() -> None:
    g = torch.Generator().manual_seed(0)
    x, ctrs = torch.rand(40, 30, 3, generator=g), torch.rand(40, 50, 3, generator=g)
    lengths, ctrs_lengths = torch.arange(40) % 31, torch.arange(40) % 51
    r = torch.rand(40, 30, generator=g) / 2
    one_by_one = [
        radius(x[i, : int(lengths[i])], ctrs[i, : int(ctrs_lengths[i])], r[i, : int(lengths[i])]) for i in range(40)
    ]
    padded = radius(x, ctrs, r, lengths=lengths, ctrs_lengths=ctrs_lengths)
    assert torch.equal(padded.indices, torch.cat([one.indices for one in one_by_one]))
    assert torch.equal(padded.distances, torch.cat([one.distances for one in one_by_one]))
    assert [int(count) for count in padded.counts.view(40, 30).sum(dim=1)] == [len(one.indices) for one in one_by_one]
    counted = radius_count(x, ctrs, r, lengths=lengths, ctrs_lengths=ctrs_lengths)
    assert torch.equal(counted, padded.counts.view(40, 30))
    big = torch.rand(3, 200, 3, generator=g)
    assert lists(radius(big, r=0.3)) == [row for cloud in big for row in lists(radius(cloud, r=0.3))]
    batch = torch.arange(3).repeat_interleave(200)
    ragged = radius(big.flatten(0, 1), r=0.3, x_batch=batch)
    first = torch.arange(3).repeat_interleave(200)[ragged.rows] * 200
    assert torch.equal(ragged.indices - first, radius(big, r=0.3).indices)
    few = batch[::20]  # groups so small that they are searched together
    assert torch.equal(
        radius_count(big[:, ::20].flatten(0, 1), r=0.5, x_batch=few), radius_count(big[:, ::20], r=0.5).flatten()
    )
    edges = radius_graph(big.flatten(0, 1), 0.3, batch)
    assert torch.equal(edges, torch.stack([ragged.indices, ragged.rows]))
    assert torch.equal(radius_graph(big.flatten(0, 1), 0.3, batch, flow="target_to_source"), edges.flip(0))


def test_rows_leave_themselves_out_by_their_number() -> None:
    x = torch.tensor([[0.0], [0.0], [1.0], [5.0]])
    assert lists(radius(x, r=1.0)) == [[1, 2], [0, 2], [0, 1], []]
    assert lists(radius(x, r=1.0, include_self=True)) == [[0, 1, 2], [0, 1, 2], [2, 0, 1], [3]]
    assert lists(radius(x, r=1.0, max_neighbors=1)) == [[1], [0], [0], []]
    assert lists(CenterIndex(x).radius(r=1.0)) == [[1, 2], [0, 2], [0, 1], []]
    many = torch.rand(600, 2, generator=torch.Generator().manual_seed(4))
    grown = CenterIndex(many[:400]).with_rows(many[400:])
    assert lists(grown.radius(r=0.05, max_memory=1 << 20)) == lists(radius(many, r=0.05))  # in blocks of rows


def test_what_is_denied_is_not_found() -> None:
    g = torch.Generator().manual_seed(1)
    x, ctrs = torch.rand(400, 3, generator=g), torch.rand(3000, 3, generator=g)
    mask = torch.rand(400, 3000, generator=g) < 0.5
    found = radius(x, ctrs, 0.1)
    expected = [[j for j in row if mask[i, j]] for i, row in enumerate(lists(found))]
    assert lists(radius(x, ctrs, 0.1, mask=mask)) == expected
    assert lists(radius(x, ctrs, 0.1, mask=lambda rows, a, b: mask[rows, a:b])) == expected
    assert lists(radius(x, ctrs, 0.1, mask=mask[0])) == [[j for j in row if mask[0, j]] for row in lists(found)]


def test_distances_have_the_derivatives_of_those_of_neighbours() -> None:
    g = torch.Generator().manual_seed(2)
    x, ctrs = (torch.rand(n, 3, dtype=torch.float64, generator=g, requires_grad=True) for n in (20, 60))
    found = radius(x, ctrs, 0.5)
    assert int(found.counts.max()) > 16  # more than one list of `ragged_distances`
    assert torch.autograd.gradcheck(lambda a, b: radius(a, b, 0.5).distances, (x, ctrs))
    near = knn(x, ctrs, k=60, r=0.5).distances
    weights = torch.rand(len(found.distances), dtype=torch.float64, generator=g)
    ours = torch.autograd.grad((found.distances * weights).sum(), (x, ctrs))
    theirs = torch.autograd.grad((near[torch.isfinite(near)] * weights).sum(), (x, ctrs))
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(
        torch.func.grad(lambda a: radius(a, ctrs.detach(), 0.5).distances.sum())(x.detach()).isnan(), x < 0
    )


def test_padding_and_gathering_leave_out_who_is_not_there() -> None:
    found = radius(torch.tensor([[0.0], [9.0]]), torch.tensor([[0.5], [1.0]]), r=2.0)
    assert found.padded(3).indices.tolist() == [[0, 1, -1], [-1, -1, -1]]
    assert found.padded().gather(torch.tensor([[1.0], [2.0]])).tolist() == [[[1.0], [2.0]], [[0.0], [0.0]]]
    assert found.rows.tolist() == [0, 0]
    empty = radius(torch.zeros(0, 2), torch.zeros(3, 2), r=1.0)
    assert empty.offsets.tolist() == [0]
    assert empty.padded(2).indices.shape == (0, 2)
    assert radius(torch.zeros(2, 2), torch.zeros(0, 2), r=1.0).counts.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("r", "error", "words"),
    [
        (-1.0, ValueError, "r must be at least 0, as distances by 'euclidean' are, got -1.0"),
        (math.nan, ValueError, "got nan"),
        (torch.tensor([0.1, -2.0, 1.0]), ValueError, "got -2.0"),
        ("1", TypeError, "r must be a number, or a tensor of one for each row of x, got str"),
        (True, TypeError, "got bool"),
        (None, TypeError, "got NoneType"),
        (torch.ones(2), ValueError, r"one for each row of x, \(3,\), got \(2,\)"),
        (2**53 + 1, ValueError, "round it: float"),
        (10**400, ValueError, "round it: float"),
        (Fraction(1, 3), ValueError, "round it: float"),
        (torch.full((3,), 2**53 + 1), ValueError, "round them"),
        (torch.ones(3, dtype=torch.bool), TypeError, "torch.bool"),
    ],
)
def test_radii_that_are_none_are_refused(r: object, error: type[Exception], words: str) -> None:
    x, ctrs = torch.zeros(3, 2), torch.zeros(4, 2)
    for call in (radius, radius_count):
        with pytest.raises(error, match=words):
            call(x, ctrs, r)
    if r is not None:
        with pytest.raises(error, match=words):
            knn(x, ctrs, k=1, r=r)


def test_other_arguments_are_checked() -> None:
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="sort_by must be one of 'distance', 'index', got 'size'"):
        radius(x, r=1.0, sort_by="size")
    with pytest.raises(ValueError, match="max_neighbors must be at least 1, got 0"):
        radius(x, r=1.0, max_neighbors=0)
    with pytest.raises(ValueError, match="flow must be one of"):
        radius_graph(x, 1.0, flow="up")
    with pytest.raises(ValueError, match="same number of columns"):
        radius(x, torch.zeros(3, 3), 1.0)
    with pytest.raises(ValueError, match=r"metric must be one of .* write 'manhattan'"):
        radius(x, r=1.0, metric="l1")


def test_a_negative_radius_of_inner_products_is_one() -> None:
    x, ctrs = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 1.0], [2.0, 9.0], [-1.0, 0.0]])
    assert lists(radius(x, ctrs, -2.0, metric="dot")) == [[0, 1]]
    assert lists(radius(x, ctrs, -math.inf, metric="dot")) == [[]]


def test_a_result_that_does_not_fit_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "free_memory", lambda device: 12 << 20)
    x = torch.rand(3000, 3, generator=torch.Generator().manual_seed(3))
    with pytest.raises(MemoryError, match=r"the result does not fit: \d+ neighbours of \d+ rows take .* GiB"):
        radius(x, r=2.0)
    assert int(radius_count(x, r=2.0).sum()) == 3000 * 2999
    assert len(radius(x, r=2.0, max_neighbors=3).indices) == 9000


MEASURE = """
import ctypes, sys
import torch
from janelia_core.ml import radius
torch.set_num_threads(2)
n, r, d = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
x = torch.rand(n, d, generator=torch.Generator().manual_seed(0))
line = lambda name: next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(name))
for _ in range(2):
    radius(x[:20000], x, r, max_memory=MEMORY)  # loads libraries, kernels and their one-off buffers
getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
open("/proc/self/clear_refs", "w").write("5")
before = line("VmRSS")
found = radius(x, r=r, max_memory=MEMORY)
print(line("VmHWM") - before - sum(t.nbytes for t in found), len(found.indices))
"""


@pytest.mark.parametrize(("n", "r", "d", "mebibytes"), [(150_000, 0.03, 3, 32), (4000, 1.75, 24, 16)])
def test_the_peak_is_that_of_the_result_and_of_what_was_given(n: int, r: float, d: int, mebibytes: int) -> None:
    done = fresh_process.run(MEASURE.replace("MEMORY", str(mebibytes << 20)), n, r, d)
    assert done.returncode == 0, done.stderr
    held, members = map(int, done.stdout.split())
    assert members > 10 * n
    assert held <= mebibytes << 20, f"held {held / 2**20:.1f} MiB of {mebibytes} beside {members} members"


@pytest.mark.parametrize("d", [3, 700])
def test_a_look_hands_torch_no_operation_that_it_would_share_out_to_threads_of_its_own(d: int) -> None:
    x, ctrs = torch.rand(64, d, dtype=torch.float64), torch.rand(2_000_000 // d, d, dtype=torch.float64)
    seen: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            seen.extend([out.numel()] if isinstance(out, torch.Tensor) and not out._is_view() else [])
            return out

    r = torch.full((64,), 0.6 if d == 3 else 1.0, dtype=torch.float64)
    with Sizes():
        expected = expected_members(Points(x), Points(ctrs), r, metric_named("chebyshev"))
    assert len(seen) > 9
    assert max(seen) < 1 << 15
    counted = int((torch.cdist(x, ctrs, p=math.inf) <= r[:, None]).sum()) / 64
    assert abs(expected - counted) <= counted / 8


def test_rows_asked_for_one_by_one_within_a_radius_pay_for_a_tree_as_many_do() -> None:
    ctrs = torch.rand(20_000, 3)
    index = CenterIndex(ctrs)
    for i in range(300):
        found = index.radius(ctrs[i : i + 1], 0.05)
    assert "tree" in repr(index)
    assert torch.equal(found.indices, radius(ctrs[299:300], ctrs, 0.05).indices)
