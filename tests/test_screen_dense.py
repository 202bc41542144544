"""The dense CPU screen never excludes wrongly: `excluded` is checked in exact arithmetic."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.screens.dense.centres import DenseCentres
from janelia_core.ml._knn.screens.dense.formats import FORMATS
from janelia_core.ml._knn.screens.dense.screen import DenseScreen
from janelia_core.ml._knn.verify import kernels as verify_kernels
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd import bits as float_bits
from janelia_core.ml.extra_torch_functions import knn_mc
from janelia_core.ml.neighbors import knn
from oracle import nearest
from plans import changed, rows_of, run
from problems import LOW_FORMATS
from test_exponents import no_dense_error

CPU = this_machine(torch.device("cpu"))
CHOSEN = [*LOW_FORMATS, "float32"]
Problem = tuple[Tensor, Tensor]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gaussian() -> Problem:
    return normal(20, 6, seed=0), normal(400, 6, seed=1)


def lattice() -> Problem:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randint(0, 3, (20, 4), generator=generator).float() * 0.25,
        torch.randint(0, 3, (400, 4), generator=generator).float() * 0.25,
    )


def off_grid_rows_on_grid_centres() -> Problem:
    x, ctrs = lattice()
    x[::2] += 0.1
    return x, ctrs


def large_integers() -> Problem:
    """Centres on a grid, with products too large to be exact in float32."""
    return (normal(20, 8, seed=0) * 2e3).round(), (normal(400, 8, seed=1) * 2e3).round()


def duplicates() -> Problem:
    x, ctrs = gaussian()
    return x, ctrs[:20].repeat(20, 1)


def huge_norms_tiny_gaps() -> Problem:
    x, ctrs = gaussian()
    return 2.0**20 + x * 2.0**-2, 2.0**20 + ctrs * 2.0**-2


def far_apart_from_their_mean() -> Problem:
    """Two tight clusters whose spread lies below float32's resolution of their distance from the mean."""
    x, ctrs = (points.double() * 2.0**-30 for points in gaussian())
    x[::2] += 1.0
    ctrs[::2] += 1.0
    return x, ctrs


def one_giant_coordinate() -> Problem:
    x, ctrs = gaussian()
    ctrs[3, 2] = 2.0**50
    return x, ctrs


def heavy_tails() -> Problem:
    x, ctrs = gaussian()
    return x * x.abs() ** 6, ctrs * ctrs.abs() ** 6


def tight_clusters() -> Problem:
    x, ctrs = gaussian()
    middles = normal(10, 6, seed=2) * 1e4
    return middles[torch.arange(20) % 10] + 1e-3 * x, middles[torch.arange(400) % 10] + 1e-3 * ctrs


def subnormal() -> Problem:
    x, ctrs = gaussian()
    return x * 2.0**-130, ctrs * 2.0**-130


def huge() -> Problem:
    x, ctrs = gaussian()
    return x * 2.0**58, ctrs * 2.0**58


def rows_far_beyond_centres() -> Problem:
    x, ctrs = gaussian()
    x[::3] *= 2.0**60
    return x, ctrs * 2.0**-40


def one_place() -> Problem:
    x, ctrs = gaussian()
    return x, ctrs[:1].expand(400, 6).contiguous()


def uint8_pixels() -> Problem:
    generator = torch.Generator().manual_seed(0)
    x, ctrs = (torch.randint(0, 256, (n, 3), generator=generator, dtype=torch.uint8) for n in (20, 400))
    return x, ctrs


def bytes_at_the_limits() -> Problem:
    """Nearly all coordinates 0 or 255, as the centres' extremes, and rows one beyond them."""
    generator = torch.Generator().manual_seed(0)
    x, ctrs = (torch.randint(0, 2, (n, 37), generator=generator) * 255.0 for n in (20, 400))
    x[::2, 0] = 256.0
    x[1::4, 1] = -1.0
    ctrs[7, 3] = 254.0
    return x, ctrs


def one_large_coordinate_each() -> Problem:
    """What int8 keeps of a point is little more than its largest coordinate."""
    x, ctrs = normal(20, 9, seed=0), normal(400, 9, seed=1)
    x[torch.arange(20), torch.arange(20) % 9] += 1000.0
    ctrs[torch.arange(400), torch.arange(400) % 9] += 1000.0
    return x, ctrs


def line() -> Problem:
    x, ctrs = normal(20, 1, seed=0), normal(400, 1, seed=1)
    return x, ctrs


def vanishing_beside_one() -> Problem:
    """Most points are nothing beside the largest."""
    x, ctrs = gaussian()
    ctrs[:390] *= 2.0**-120
    x[:10] *= 2.0**-120
    return x, ctrs


PROBLEMS: list[Callable[[], Problem]] = [
    gaussian, lattice, off_grid_rows_on_grid_centres, large_integers, duplicates, huge_norms_tiny_gaps,
    far_apart_from_their_mean, one_giant_coordinate, heavy_tails, tight_clusters, subnormal, huge,
    rows_far_beyond_centres, one_place, uint8_pixels, bytes_at_the_limits, one_large_coordinate_each, line,
    vanishing_beside_one,
]  # fmt: skip


def exact_distances(x: Tensor, ctrs: Tensor) -> list[list[Fraction]]:
    """Every squared distance, by integer arithmetic on the values over their common power of two."""
    values = [[value.as_integer_ratio() for row in points.double().tolist() for value in row] for points in (x, ctrs)]
    unit = max(denominator for points in values for _, denominator in points)
    rows, columns = (
        np.array([top * (unit // bottom) for top, bottom in points], object).reshape(-1, x.shape[1])
        for points in values
    )
    gaps = rows[:, None, :] - columns[None, :, :]
    return [[Fraction(square, unit * unit) for square in row] for row in (gaps * gaps).sum(2).tolist()]


def assert_nothing_is_excluded_wrongly(x: Tensor, ctrs: Tensor, k: int, screen: DenseScreen) -> float:
    """Checks every row's certificate; returns the share of rows that are certified."""
    listed, excluded, at_least = screen.candidates(rows_of(x))
    assert at_least is not None
    certified = 0
    for i, distances in enumerate(exact_distances(x, ctrs)):
        kept = [j for j in listed[i].tolist() if j >= 0]
        assert len(set(kept)) == len(kept)
        for j, bound in zip(listed[i].tolist(), at_least[i].tolist(), strict=True):
            assert j < 0 or bound == -torch.inf or Fraction(bound) <= distances[j]
        answer = sorted(range(len(distances)), key=lambda j: (distances[j], j))[:k]
        if excluded[i] == torch.inf:
            assert set(answer) <= set(kept)
            certified += 1
        elif excluded[i] > -torch.inf:
            bound = Fraction(float(excluded[i]))
            assert all(distance >= bound for j, distance in enumerate(distances) if j not in set(kept))
            certified += len(kept) >= k and sorted(distances[j] for j in kept)[k - 1] < bound
    return certified / len(x)


@pytest.mark.parametrize("chosen", CHOSEN)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.__name__)
def test_every_unlisted_centre_is_at_least_as_far_as_excluded_says(problem: Callable[[], Problem], chosen: str) -> None:
    x, ctrs = problem()
    assert_nothing_is_excluded_wrongly(x, ctrs, 5, DenseScreen(DenseCentres(Points(ctrs), FORMATS[chosen]), 5))


@pytest.mark.parametrize("chosen", CHOSEN)
def test_buffers_that_overflow_with_near_ties_say_so(chosen: str) -> None:
    """A thousand centres closer to one another than any format resolves: rows are in doubt, none is wrong."""
    ctrs = 1.0 + normal(1000, 5, seed=1) * 2.0**-22
    x = torch.cat([ctrs[:10] + 2.0**-23, normal(10, 5, seed=0)])
    ctrs = torch.cat([ctrs, normal(50, 5, seed=2)])
    assert_nothing_is_excluded_wrongly(x, ctrs, 3, DenseScreen(DenseCentres(Points(ctrs), FORMATS[chosen]), 3))


@pytest.mark.parametrize("problem", [gaussian, lattice, uint8_pixels, one_giant_coordinate, subnormal, huge])
def test_float32_certifies_every_row_where_gaps_exceed_its_rounding(problem: Callable[[], Problem]) -> None:
    x, ctrs = problem()
    if problem is one_giant_coordinate:  # its mean is far from all others: the frame cannot resolve them
        x, ctrs = x.double(), ctrs.double()
        ctrs[3, 2] = 2.0**10
    assert assert_nothing_is_excluded_wrongly(x, ctrs, 5, DenseScreen(DenseCentres(Points(ctrs)), 5)) == 1.0


@pytest.mark.parametrize("k", [1, 3, 40, 400])
def test_any_k_up_to_all_centres_is_served(k: int) -> None:
    x, ctrs = gaussian()
    assert assert_nothing_is_excluded_wrongly(x[:5], ctrs, k, DenseScreen(DenseCentres(Points(ctrs)), k)) == 1.0


def beyond_bytes_on_a_grid() -> Problem:
    """Integers of which int8 keeps few exactly, and rows just off their grid."""
    generator = torch.Generator().manual_seed(0)
    ctrs = torch.randint(-125, 126, (400, 50), generator=generator).float()
    ctrs[::2, 0] = 1000.0
    return ctrs[:20].roll(1, 0) + 2.0**-10, ctrs


@pytest.mark.parametrize("chosen", CHOSEN)
@pytest.mark.parametrize("problem", [*PROBLEMS, beyond_bytes_on_a_grid], ids=lambda problem: problem.__name__)
def test_every_key_and_its_lower_bound_enclose_the_score(problem: Callable[[], Problem], chosen: str) -> None:
    x, ctrs = problem()
    screen = DenseScreen(DenseCentres(Points(ctrs), FORMATS[chosen]), 5)
    frame, block = screen.centres.frame, screen._block(rows_of(x), None)
    block.scan(0, screen.centres.words, first=True)
    stride, lists, lows = (
        screen.centres.stride,
        block._lists,
        block._lists.lows[: -float_bits.LANES].reshape(-1, screen.capacity),
    )
    shift, scale = [Fraction(value) for value in frame.shift.tolist()], Fraction(frame.scale)
    for i, row in list(enumerate(x.double().tolist()))[::5]:
        if block._lost[i]:
            continue
        u = [(Fraction(value) - t) * scale for value, t in zip(row, shift, strict=True)]
        n = int(lists.length[i])
        for slot, packed in enumerate(lists.ids[i, :n].tolist()):
            j = packed % 256 * stride + packed // 256 if stride else packed
            v = [(Fraction(value) - t) * scale for value, t in zip(ctrs[j].double().tolist(), shift, strict=True)]
            score = sum(a * b for a, b in zip(u, v, strict=True)) - sum(b * b for b in v) / 2
            key, low = Fraction(float(lists.keys[i, slot])), Fraction(float(float_bits.float_of_rank(lows[i, slot])))
            assert score == key if lists.exact[i] else low <= score <= key


def test_rows_beyond_what_a_format_holds_go_up_the_ladder() -> None:
    generator = torch.Generator().manual_seed(0)
    sign = torch.where(torch.rand(4000, 256, generator=generator) < 0.5, -1.0, 1.0)
    ctrs = torch.randint(2**21, 2**22, (4000, 256), generator=generator).float() * sign
    x = (torch.rand(1, 256, generator=generator) + 1) * 2.0**98
    plan = changed(make_plan(20, 4000, 256, 5, 4000, machine=CPU), screen="dense", at_once_rows=0)
    for rows in (x.repeat(20, 1), -x.repeat(20, 1)):
        with watch_knn() as reports:
            found = run(rows, ctrs, plan)
        scores = rows[0].double() @ ctrs.double().T  # |c|^2 is nothing beside them
        assert torch.equal(found, scores.topk(5).indices[:, None].expand(5, 20))
        assert "exhaustive: 20 rows" in str(reports[0])


@pytest.mark.parametrize("memory", [8 << 20, 256 << 20])
def test_zeros_wherever_a_look_for_a_grid_samples_tell_nothing_of_the_others(memory: int) -> None:
    """Sampled centres are all zero, others enormous: taken for integers, their scores overflowed."""
    ctrs = normal(4096, 64, seed=0)
    ctrs[5::512] *= 1e30
    ctrs[::64] = 0
    x = normal(300, 64, seed=1) * 1e10
    found = knn(x, ctrs, 64, metric="dot", max_memory=memory).indices
    products = x.double() @ ctrs.double().T
    assert torch.equal(found, products.topk(64).indices)

    ctrs = normal(4096, 64, seed=0) * 1e30
    ctrs[::64] = 0
    found = knn_mc(x / 1e10, ctrs, 65, 4096, max_memory=memory)
    nearest = ctrs.double().square().sum(1).masked_fill(ctrs[:, 0] == 0, torch.inf).argmin()
    assert torch.equal(found, torch.cat([torch.arange(0, 4096, 64), nearest[None]])[:, None].expand(65, 300))


@pytest.mark.parametrize("chosen", CHOSEN)
def test_packing_panel_by_panel_lists_the_same_candidates(chosen: str) -> None:
    x, ctrs = gaussian()
    whole = DenseScreen(DenseCentres(Points(ctrs), FORMATS[chosen]), 5).candidates(rows_of(x))
    tight = DenseScreen(DenseCentres(Points(ctrs), FORMATS[chosen], pack_bytes=0), 5).candidates(rows_of(x))
    assert torch.equal(whole.indices, tight.indices)
    assert torch.equal(whole.excluded, tight.excluded)


def test_exact_ties_go_to_the_lowest_index_and_leave_exactly_k_candidates() -> None:
    x, ctrs = lattice()
    listed, excluded, _ = DenseScreen(DenseCentres(Points(ctrs)), 5).candidates(rows_of(x))
    assert listed.shape == (20, 5)
    assert bool((excluded == torch.inf).all())


def test_an_error_in_the_frame_is_passed_on() -> None:
    """Points known only to 2^-20 of their size: the certificate must hold for any point within reach."""
    x, ctrs = gaussian()
    screen = DenseScreen(DenseCentres(Points(ctrs), relative_error=2.0**-20), 5)
    for sign in (-1.0, 1.0):
        moved = ctrs.double() * (1 + sign * 2.0**-20)
        near = x.double() * (1 - sign * 2.0**-20)
        listed, excluded, _ = screen.candidates(rows_of(x))
        for i, distances in enumerate(exact_distances(near, moved)):
            kept = set(listed[i].tolist())
            assert all(d >= Fraction(float(excluded[i])) for j, d in enumerate(distances) if j not in kept)


@pytest.mark.parametrize("chosen", CHOSEN)
def test_a_loosened_bound_is_caught(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # All centres on a sphere around the origin and orthogonal to far rows: scores differ by less than they
    # err, and with k of 300 the k-th best comes out below the true score of many that are left out.
    direction = torch.nn.functional.normalize(normal(64, seed=0), dim=0)
    ctrs = normal(400, 64, seed=1)
    ctrs = torch.nn.functional.normalize(ctrs - (ctrs @ direction)[:, None] * direction, dim=1)
    x = direction * torch.linspace(500, 1500, 20)[:, None]
    assert_nothing_is_excluded_wrongly(x, ctrs, 300, DenseScreen(DenseCentres(Points(ctrs), FORMATS[chosen]), 300))
    no_dense_error(monkeypatch)
    with pytest.raises(AssertionError):
        assert_nothing_is_excluded_wrongly(x, ctrs, 300, DenseScreen(DenseCentres(Points(ctrs), FORMATS[chosen]), 300))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("d", [1, 15, 16, 37])
def test_verified_distances_are_within_the_stated_error_and_sorted(d: int, dtype: torch.dtype) -> None:
    x, ctrs = normal(4, d, seed=0).to(dtype), normal(50, d, seed=1).to(dtype)
    ctrs[7] = ctrs[3]
    listed = torch.stack([torch.randperm(50)[:20] for _ in range(4)])
    listed[0, :3] = torch.tensor([7, 3, -1])
    listed[0, 3:] = -1
    distances, indices = np.empty((4, 20)), np.empty((4, 20), np.int64)
    lists = verify_kernels.Lists(x.numpy(), ctrs.numpy(), listed.numpy(), np.empty((0, 0)))
    verify_kernels.verify(lists, 0, (0.0, 0.0), distances, indices)
    assert indices[0].tolist() == [3, 7] + [-1] * 18
    for i, exact in enumerate(exact_distances(x, ctrs)):
        found = [(float(far), int(j)) for far, j in zip(distances[i], indices[i], strict=True) if j >= 0]
        assert found == sorted(found)
        assert all(abs(Fraction(far) - exact[j]) <= (d + 2) * Fraction(2) ** -53 * exact[j] for far, j in found)
        assert {j for _, j in found} == {j for j in listed[i].tolist() if j >= 0}


def test_only_listed_centres_proven_farther_than_the_first_k_are_left_out() -> None:
    """Distances 1, 4, 9, ... with bounds a half below them; of the first three listed, the farthest has 16."""
    x, ctrs = np.zeros((1, 1)), np.arange(1.0, 9.0)[:, None]
    listed = np.array([[3, 0, 1, 2, 4, 5, -1, 7]])
    distances, indices = np.empty((1, 8)), np.empty((1, 8), np.int64)
    at_least = (listed + 1.0) ** 2 - 0.5
    at_least[0, 5] = 16.0  # a tie with the farthest, for all that is known
    verify_kernels.verify(verify_kernels.Lists(x, ctrs, listed, at_least), 3, (0.0, 0.0), distances, indices)
    assert indices[0].tolist() == [0, 1, 2, 3, 5, -1, -1, -1]
    assert distances[0, :5].tolist() == [1.0, 4.0, 9.0, 16.0, 36.0]


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 1000])
def test_pairs_are_sorted_by_distance_then_number_with_nan_last(n: int) -> None:
    rng = np.random.default_rng(n)
    keys = rng.integers(0, 20, n) / 4.0
    keys[rng.integers(0, 5, n) == 0] = np.inf
    keys[rng.integers(0, 5, n) == 0] = -np.nan
    ids = rng.permutation(n)
    expected = ids[np.lexsort((ids, np.nan_to_num(keys, nan=0.0, posinf=np.inf), np.isnan(keys)))].tolist()
    spare_keys, spare_ids = np.empty(n), np.empty(n, np.int64)
    swapped = verify_kernels.sort(keys, ids, n, spare_keys, spare_ids)
    assert (spare_ids if swapped else ids).tolist() == expected


@pytest.mark.skipif("int8" not in CHOSEN, reason="no int8 instructions here")
def test_rows_that_int8_cannot_certify_are_searched_in_float32() -> None:
    """In each dimension bundles of centres that int8 cannot part: all rows climb, and later ones start higher."""
    middles = 5.0 * normal(5, 40, seed=2)
    ctrs = middles[torch.arange(4000) % 5] + 0.1 * normal(4000, 40, seed=1)
    x = middles[torch.arange(3000) % 5] + 0.1 * normal(3000, 40, seed=0)
    plan = make_plan(3000, 4000, 40, 5, 4000, machine=this_machine(x.device))
    plan = changed(plan.otherwise or plan, row_block=500, workers=1)
    with watch_knn() as reports:
        found = run(x, ctrs, plan)
        expected = run(x, ctrs, changed(plan, formats=("float32",)))
    assert torch.equal(found, expected)
    assert 0 < reports[0].n_climbed < 3000
    assert reports[0].n_screened == 3000
    assert reports[0].n_escalated == 0


def test_kernels_compiled_for_a_lesser_cpu_list_the_same() -> None:
    """Tiles of another shape, for vectors of half as many bits: 256, or 128 where that is what this processor has."""
    cpu = "haswell" if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else "generic"
    script = """
import torch
from janelia_core.ml._simd import dot_tiles
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.dense.centres import DenseCentres
from janelia_core.ml._knn.screens.dense.rounding import Sums
from janelia_core.ml._knn.screens.dense.screen import DenseScreen
assert dot_tiles.ROWS == 6 and not dot_tiles.compiles("int8")
assert this_machine(torch.device("cpu")).formats == ("float32",)
g = torch.Generator().manual_seed(0)
x, ctrs = torch.randn(21, 6, generator=g), torch.randn(400, 6, generator=g)
listed, excluded, _ = DenseScreen(DenseCentres(Points(ctrs)), 5).candidates(Rows(x, torch.arange(len(x))))
distances = (x.double()[:, None] - ctrs.double()).square().sum(2)
expected = distances.topk(5, largest=False).indices
for row, answer in zip(listed.tolist(), expected.tolist()):
    assert set(answer) <= set(row)
assert bool((distances.topk(5, largest=False).values[:, -1] < excluded).all())
"""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("these are processors of x86")
    environment = os.environ | {
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": "+sse2" if cpu == "generic" else "+avx2,+fma",
    }
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


@pytest.mark.parametrize("metric", ["euclidean", "dot", "cosine"])
@pytest.mark.parametrize("chosen", CHOSEN)
def test_few_rows_whose_workers_share_the_centres_are_answered_as_by_one(chosen: str, metric: str) -> None:
    for x, ctrs in (gaussian(), lattice(), off_grid_rows_on_grid_centres(), large_integers()):
        ctrs = torch.cat([ctrs + step for step in range(4)])
        for rows in (x[:1], x[:7], torch.cat([x[:3], x[:2] / 0.0])):
            plan = make_plan(len(rows), len(ctrs), x.shape[1], 9, len(ctrs), machine=CPU, metric=metric)
            plan = changed(plan, screen="dense", at_once_rows=0, formats=(chosen, "float32"), pack_bytes=1 << 30)
            alone = run(rows, ctrs, plan)
            assert torch.equal(alone, nearest(rows, ctrs, 9, metric))
            for workers in (2, 3, 40):
                assert torch.equal(run(rows, ctrs, changed(plan, workers=workers, panel=64)), alone)


@pytest.mark.parametrize("chosen", CHOSEN)
def test_what_no_share_lists_is_as_far_as_the_joined_lists_say(chosen: str) -> None:
    for x, ctrs in (gaussian(), off_grid_rows_on_grid_centres()):
        ctrs = torch.cat([ctrs + step / 3 for step in range(5)])
        screen = DenseScreen(DenseCentres(Points(ctrs), FORMATS[chosen], panel=64), 3)
        with Workers(3) as workers:
            listed, excluded, at_least = screen.shared(rows_of(x[:4]), workers)
        assert at_least is not None
        truth = (x[:4, None].double() - ctrs.double()).square().sum(-1)
        for i in range(4):
            own = listed[i][listed[i] >= 0]
            assert len(own.unique()) == len(own)
            others = truth[i].clone()
            others[own] = torch.inf
            assert float(others.min()) * (1 + 1e-12) >= float(excluded[i])
            assert set(truth[i].topk(3, largest=False).indices.tolist()) <= set(own.tolist())
            assert bool((at_least[i, : len(own)] <= truth[i, own] * (1 + 1e-12)).all())
