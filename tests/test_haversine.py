"""Places on the sphere: points and angles are correctly rounded, so every answer by "haversine" is one of one kind.

mpmath tells the truth here, with enough digits; the order is that of the exact oracle among the points it gives.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from sklearn.neighbors import BallTree
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import oracle
from janelia_core import cli
from janelia_core.ml import knn, radius, radius_count
from janelia_core.ml._knn import reference
from janelia_core.ml._knn.arithmetic import exact_sines
from janelia_core.ml._knn.arithmetic.angles import ANGLE_ERROR, angles_over_chords
from janelia_core.ml._knn.arithmetic.integers import FLOAT64
from janelia_core.ml._knn.arithmetic.sines import SINE_ERROR, sine_cosine_of
from janelia_core.ml._knn.data import sphere
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.sphere import points_of_the_sphere
from janelia_core.ml._knn.distances import angles
from janelia_core.ml._knn.distances.distances import distances
from janelia_core.ml._knn.merge import Running, compare, extend
from janelia_core.ml.index import CenterIndex
from janelia_core.ml.modules import NearestCenters
from janelia_core.ml.neighbors import knn_graph, radius_graph

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch's own

HALF_TURN = torch.tensor([math.pi, 2.0 * math.pi], dtype=torch.float64)


WAYS = ("kernels", "arrays")


def take(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have points and angles computed by kernels, or by NumPy."""
    for module in (sphere, angles) if way == "arrays" else ():
        monkeypatch.setattr(module, "_are_loaded", lambda *_: False)


def places(n: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Return n places from all over the sphere."""
    g = torch.Generator().manual_seed(seed)
    return ((torch.rand(n, 2, generator=g, dtype=torch.float64) - 0.5) * HALF_TURN).to(dtype)


def near_quarters() -> Tensor:
    turns = torch.tensor(list(itertools.product(range(-4, 5), range(-4, 5))), dtype=torch.float64) * (math.pi / 2)
    beside = torch.nextafter(turns, torch.tensor(9.0, dtype=torch.float64))
    return torch.cat([turns, beside, turns + 1e-9])


def not_finite() -> Tensor:
    return torch.tensor([[math.nan, 0.0], [0.0, math.inf], [-math.inf, math.nan], [0.5, 0.5]], dtype=torch.float64)


def of_many_sizes(low: float, high: float, n: int = 40) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return 10.0 ** (low + (high - low) * torch.rand(n, 2, generator=g, dtype=torch.float64)) * places(n).sign()


KINDS = {
    "ordinary": lambda: places(400),
    "float32": lambda: places(200, torch.float32),
    "bfloat16": lambda: places(60, torch.bfloat16),
    "quarters": near_quarters,
    "small": lambda: of_many_sizes(-30, 0),
    "tiny": lambda: of_many_sizes(-320, -100),
    "large": lambda: of_many_sizes(0, 3.6),
    "huge": lambda: of_many_sizes(4, 308),
    "integers": lambda: torch.tensor([[0, 0], [1, 2], [2**62 + 1, -(2**61) - 1], [-710, 22]]),
    "not finite": not_finite,
}


def true_points(values: Tensor) -> Tensor:
    """Return the points (n, 3) by mpmath."""
    found = []
    for row in values.tolist():
        if not all(map(math.isfinite, row)):
            found.append([math.nan] * 3)
            continue
        with mpmath.workdps(700 if max(map(abs, row)) > 1e4 else 60 if min(map(abs, row)) > 1e-9 else 360):
            lat, lon = map(mpmath.mpf, row)
            of = (mpmath.cos(lat) * mpmath.cos(lon), mpmath.cos(lat) * mpmath.sin(lon), mpmath.sin(lat))
            found.append([_nearest_double(v) for v in of])
    return torch.tensor(found, dtype=torch.float64)


def _nearest_double(value: mpmath.mpf) -> float:
    sign, significand, exponent, _ = value._mpf_
    return float((-1) ** sign * Fraction(int(significand)) * Fraction(2) ** int(exponent))  # Python rounds it right


def true_angles(p: Tensor, q: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the angles (n,) over the chords of points (n, 3), by mpmath."""
    found = []
    for one, other in zip(p.tolist(), q.tolist(), strict=True):
        with mpmath.workdps(60):
            angle = 2 * mpmath.asin(min(mpmath.mpf(1), mpmath.sqrt(true_square(one, other)) / 2))
            with mpmath.workprec(53 if dtype == torch.float64 else 24):
                found.append(float(+angle))
    return torch.tensor(found, dtype=torch.float64).to(dtype)


def true_square(p: list[float], q: list[float]) -> mpmath.mpf:
    return sum((mpmath.mpf(a) - mpmath.mpf(b)) ** 2 for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_points_are_the_float64_numbers_nearest_to_the_sphere(
    kind: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(way, monkeypatch)
    values = KINDS[kind]()
    assert same_bits(points_of_the_sphere(values), true_points(values))


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Tell whether two float tensors are alike, NaN included; 0 is +0."""
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(nan=9.0), b.nan_to_num(nan=9.0) + 0.0)


def test_integers_alone_give_the_same_points(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.cat([places(100), near_quarters()[::3]])
    expected = points_of_the_sphere(values)
    take("arrays", monkeypatch)
    asked: list[float] = []
    monkeypatch.setattr(sphere, "nearest_point", lambda *a: asked.append(a[0]) or exact_sines.nearest_point(*a))
    monkeypatch.setattr(sphere, "_ERROR", 1.0)
    assert torch.equal(points_of_the_sphere(values), expected)
    assert len(asked) == len(values)


def test_an_error_left_out_makes_wrong_points(monkeypatch: pytest.MonkeyPatch) -> None:
    values = places(60_000, seed=5)
    expected = points_of_the_sphere(values)
    take("arrays", monkeypatch)
    honest = sphere.sine_cosine_of
    coarse = lambda v: honest(v)._replace(sine=(honest(v).sine[0], 0.0 * v))  # noqa: E731
    monkeypatch.setattr(sphere, "sine_cosine_of", coarse)
    monkeypatch.setattr(sphere, "_ERROR", 0.0)
    assert not torch.equal(points_of_the_sphere(values), expected)


def test_sines_are_within_their_error() -> None:
    steps = np.arange(-520, 521) * (math.pi / 512)
    v = np.concatenate([steps, steps + math.pi / 1024, np.geomspace(1e-12, 4000, 500), np.arange(-40, 40) * 51.1])
    found = sine_cosine_of(v)
    assert found.known.mean() > 0.99
    with mpmath.workdps(60):
        for i in np.flatnonzero(found.known & (v != 0)):
            for truth, (hi, lo) in ((mpmath.sin(v[i]), found.sine), (mpmath.cos(v[i]), found.cosine)):
                assert abs(mpmath.mpf(hi[i]) + mpmath.mpf(lo[i]) - truth) <= SINE_ERROR * abs(truth)


def test_what_no_sine_is_told_of_is_said() -> None:
    known = sine_cosine_of(np.array([0.0, 4097.0, math.nan, math.inf, 1e-200, -1.0])).known
    assert known.tolist() == [True, False, False, False, False, True]


def pairs_of_all_kinds() -> tuple[Tensor, Tensor]:
    """Return places, and others that are far, near, very near, the same, opposite, and nearly opposite."""
    g = torch.Generator().manual_seed(2)
    x, nudge = places(60, seed=3), torch.rand(60, 2, generator=g, dtype=torch.float64)
    opposite = x * torch.tensor([-1.0, 1.0]) + torch.tensor([0.0, math.pi])
    others = [
        places(60, seed=4),
        x + 1e-3 * nudge,
        x + 10.0 ** (-17 * nudge),
        x,
        opposite,
        opposite + 10 ** (-17 * nudge),
    ]
    return x.repeat(len(others), 1), torch.cat(others)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_angles_are_rounded_once(dtype: torch.dtype, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take(way, monkeypatch)
    x, ctrs = (values.to(dtype) for values in pairs_of_all_kinds())
    expected = true_angles(points_of_the_sphere(x), points_of_the_sphere(ctrs), dtype)
    each = torch.arange(len(x))[:, None]
    assert same_bits(distances(x, ctrs, each, "haversine")[:, 0], expected)
    assert same_bits(distances(x[:9], ctrs, each[:9], "haversine")[:, 0], expected[:9])  # of listed centres alone


def test_integers_alone_give_the_same_angles(monkeypatch: pytest.MonkeyPatch) -> None:
    x, ctrs = (values[::3] for values in pairs_of_all_kinds())
    each = torch.arange(len(x))[:, None]
    expected = distances(x, ctrs, each, "haversine")
    take("arrays", monkeypatch)
    unknown = lambda p, q: (*angles_over_chords(p, q)[:2], np.full(p.shape[1], np.inf))  # noqa: E731
    monkeypatch.setattr(angles, "angles_over_chords", unknown)
    assert torch.equal(distances(x, ctrs, each, "haversine"), expected)


def test_angles_are_within_their_error() -> None:
    p, q = (points_of_the_sphere(values) for values in pairs_of_all_kinds())
    hi, lo, error = angles_over_chords(p.numpy().T.copy(), q.numpy().T.copy())
    told = np.isfinite(error)
    assert 0.7 < told.mean() < 1.0  # not where places are opposite
    with mpmath.workdps(60):
        for i in np.flatnonzero(told):
            square = sum(
                (mpmath.mpf(a) - mpmath.mpf(b)) ** 2 for a, b in zip(p[i].tolist(), q[i].tolist(), strict=True)
            )
            truth = 2 * mpmath.asin(mpmath.sqrt(square) / 2)
            assert abs(mpmath.mpf(hi[i]) + mpmath.mpf(lo[i]) - truth) <= error[i] <= ANGLE_ERROR * 3.15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_and_arrays_agree_on_many(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x, ctrs = places(3000, dtype), places(4000, dtype, seed=1)
    indices = torch.randint(-1, 4000, (3000, 7), generator=torch.Generator().manual_seed(3))
    expected = points_of_the_sphere(x), distances(x, ctrs, indices, "haversine")
    take("arrays", monkeypatch)
    assert torch.equal(points_of_the_sphere(x), expected[0])
    assert torch.equal(distances(x, ctrs, indices, "haversine"), expected[1])
    assert torch.equal(expected[1].isinf(), indices < 0)


def test_the_longest_angle_is_pi_rounded_and_angles_of_hardly_anything_are_told() -> None:
    ends = (Fraction(4), Fraction(4) + Fraction(1, 10**30), Fraction(1, 10**600), Fraction(2**193 + 1, 2**333))
    for square in ends:
        with mpmath.workdps(400):
            side = mpmath.sqrt(mpmath.mpf(square.numerator) / square.denominator) / 2
            expected = _nearest_double(2 * mpmath.asin(min(side, mpmath.mpf(1))))
        bits = torch.tensor(exact_sines.nearest_angle(square, FLOAT64)).view(torch.float64)
        assert bits.item() == expected


def hard(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return places and centres with copies, poles, the date line, whole turns and what is not finite among them."""
    x, ctrs = places(14, dtype, seed=6), places(150, dtype, seed=7)
    ctrs[20:40] = ctrs[0:20]
    quarters = near_quarters().to(dtype)
    x[2], x[3], x[4] = torch.tensor([math.pi / 2, 1.0]), torch.tensor([0.2, math.pi]), torch.tensor([0.2, -math.pi])
    ctrs[40:90] = quarters[torch.arange(50) * 4 % len(quarters)]
    x[0], ctrs[3], ctrs[11, 1] = math.nan, math.nan, math.inf
    ctrs[100:110] = ctrs[110:120] + torch.tensor([0.0, 2 * math.pi])
    return x, ctrs


def exact_answer(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
    """Return (n, k): the order of the oracle among points that mpmath tells."""
    return oracle.nearest(true_points(x), true_points(ctrs), k).T


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_neighbours_are_those_of_the_exact_oracle(dtype: torch.dtype) -> None:
    x, ctrs = hard(dtype)
    found = knn(x, ctrs, len(ctrs), metric="haversine")
    expected = exact_answer(x, ctrs, len(ctrs))
    assert torch.equal(found.indices, expected)
    assert torch.equal(reference.nearest(x, ctrs, 9, "haversine").T, expected[:, :9])
    assert found.distances.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    told = found.distances[1:, :-2]  # row 0 and two centres are nowhere
    assert (told[:, 1:] >= told[:, :-1]).all()
    assert found.distances[0].isnan().all()
    assert found.distances[:, -2:].isnan().all()


def test_whoever_searches_finds_the_same() -> None:
    x, ctrs = hard()
    k, expected = 7, exact_answer(*hard(), 7)
    own = knn(x, ctrs, k, metric="haversine").distances
    with_more = CenterIndex(ctrs[:90], metric="haversine").with_rows(ctrs[90:])
    module = NearestCenters(ctrs, k, metric="haversine").eval()
    batches = torch.zeros(len(x), dtype=torch.int64), torch.zeros(len(ctrs), dtype=torch.int64)
    searches = (
        knn(x, ctrs, k, metric="haversine", m=64, max_memory=2**20),
        knn(x.flip(0), ctrs, k, metric="haversine", mask=lambda rows, i, j: torch.ones(len(rows), j - i) > 0),
        knn(x, ctrs, k, metric="haversine", x_batch=batches[0], ctrs_batch=batches[1]),
        knn(x[None].expand(3, -1, -1), ctrs, k, metric="haversine"),
        CenterIndex(ctrs, metric="haversine").prepare(10**5, k).knn(x, k),
        CenterIndex(ctrs, max_memory=0).knn(x, k, metric="haversine"),
        with_more.knn(x, k),
        module(x),
        torch.vmap(lambda row: knn(row[None], ctrs, k, metric="haversine"))(x),
    )
    for distances_, indices in searches:
        rows = indices.reshape(-1, len(x), k)
        rows = rows.flip(1) if torch.equal(rows[0], expected.flip(0)) else rows
        assert all(torch.equal(each, expected) for each in rows)
        assert distances_.nansum().item() == pytest.approx(own.nansum().item() * len(rows), rel=1e-15)


def test_an_index_that_shrinks_grows_and_is_saved_knows_places(tmp_path) -> None:
    x, ctrs = places(300, torch.float32), places(9000, torch.float32, seed=1)
    index = CenterIndex(ctrs[:8000], metric="haversine").prepare(10**6, 5)
    assert "haversine" in repr(index)
    assert index.nbytes >= 24 * 8000
    gone = torch.arange(0, 9000, 7)
    index = index.with_rows(ctrs[8000:]).without(gone)
    expected = knn(x, ctrs, 5, metric="haversine", mask=torch.arange(9000) % 7 > 0)
    index.save(tmp_path / "places")
    for kept in (index, CenterIndex.load(tmp_path / "places")):
        found = kept.knn(x, 5)
        assert torch.equal(found.indices, expected.indices)
        assert torch.equal(found.distances, expected.distances)
        assert kept.ctrs.shape == (9000, 2)


def test_centres_that_come_block_by_block_are_ordered_as_all_at_once() -> None:
    x, ctrs = hard()
    running = Running.empty(len(x), 6, "haversine", torch.float64)
    for start in range(0, len(ctrs), 40):
        extend(running, x, ctrs[start : start + 40], start, Points(ctrs), max_memory=2**20)
    expected = knn(x, ctrs, 6, metric="haversine")
    assert torch.equal(running.indices, expected.indices)
    assert same_bits(running.distances, expected.distances)
    one, other = expected.indices[1:, 0], expected.indices[1:, 5]
    assert (compare(x[1:], Points(ctrs), one, other, "haversine") == -1).all()
    assert (compare(x, Points(ctrs), torch.tensor([5] * 14), torch.tensor([25] * 14), "haversine") == 0).all()  # copies


def test_the_command_line_takes_it(tmp_path, capsys) -> None:
    x, ctrs = places(20, torch.float32), places(400, torch.float32, seed=1)
    for name, values in (("x", x), ("ctrs", ctrs), ("flat", ctrs[:, :1])):
        np.save(tmp_path / f"{name}.npy", values.numpy())
    files = [str(tmp_path / name) for name in ("ctrs.npy", "x.npy", "out.npy")]
    assert cli.main(["search", *files[:2], "-k", "3", "-o", files[2], "--metric", "haversine"]) == 0
    assert np.array_equal(np.load(files[2]), knn(x, ctrs, 3, metric="haversine").indices.numpy())
    assert cli.main(["verify", *files, "--metric", "haversine"]) == 0
    flat = str(tmp_path / "flat.npy")
    assert cli.main(["search", flat, "-k", "3", "-o", files[2], "--metric", "haversine"]) != 0
    assert "centres must have 2 columns for metric='haversine'" in capsys.readouterr().err


def test_scikit_learn_agrees_on_ordinary_places() -> None:
    x, ctrs = places(500), places(3000, seed=1)
    theirs, indices = BallTree(ctrs.numpy(), metric="haversine").query(x.numpy(), k=6)
    found = knn(x, ctrs, 6, metric="haversine")
    assert np.array_equal(found.indices.numpy(), indices)
    assert np.allclose(found.distances.numpy(), theirs, rtol=0, atol=1e-14)


def test_both_sides_of_the_date_line_are_two_places_as_near_as_pi_is_to_its_float() -> None:
    line = torch.tensor([[0.0, math.pi], [0.0, -math.pi]], dtype=torch.float64)
    found = knn(line, k=2, metric="haversine", include_self=True)
    assert found.indices.tolist() == [[0, 1], [1, 0]]
    assert found.distances[0].tolist() == [0.0, 2 * 1.2246467991473532e-16]


def test_a_pole_is_one_place_whatever_its_longitude() -> None:
    poles = torch.tensor([[math.pi / 2, lon] for lon in (-3.0, 0.0, 2.0)], dtype=torch.float64)
    assert knn(poles, k=2, metric="haversine").distances.max() < 2e-16


def test_graphs_take_it() -> None:
    x = places(40)
    edges = knn_graph(x, 3, metric="haversine")
    assert torch.equal(edges[0].view(40, 3), knn(x, k=3, metric="haversine").indices)


def test_a_thread_that_flushes_subnormals_gets_the_same() -> None:
    values = torch.cat([of_many_sizes(-322, -300, 12), places(4)])
    expected = points_of_the_sphere(values), knn(values, k=9, metric="haversine")
    torch.set_flush_denormal(True)
    try:
        points, found = points_of_the_sphere(values), knn(values, k=9, metric="haversine")
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(points, expected[0])
    assert torch.equal(found.indices, expected[1].indices)
    assert torch.equal(found.distances, expected[1].distances)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_derivatives_are_those_of_the_angle(dtype: torch.dtype) -> None:
    """By the haversine formula, for neighbours near and far."""
    x, ctrs = places(5, seed=8), places(30, seed=9)
    ctrs[:5] = x + 1e-6
    x, ctrs = x.to(dtype).requires_grad_(), ctrs.to(dtype).requires_grad_()
    found = knn(x, ctrs, 20, metric="haversine")
    ours = torch.autograd.grad(found.distances.sum(), (x, ctrs))
    a, b = x.double().detach().requires_grad_(), ctrs.double().detach().requires_grad_()
    gap = b[found.indices] - a[:, None]
    root = (gap[..., 0] / 2).sin() ** 2 + a[:, None, 0].cos() * b[found.indices][..., 0].cos() * (
        gap[..., 1] / 2
    ).sin() ** 2
    theirs = torch.autograd.grad((2 * root.sqrt().asin()).sum(), (a, b))
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == dtype
        assert torch.allclose(one.double(), other, rtol=0, atol=1e-8 if dtype == torch.float64 else 2e-5)


def test_derivatives_of_every_order_and_mode() -> None:
    x, ctrs = places(3).requires_grad_(), places(6, seed=1).requires_grad_()

    def of(x: Tensor, ctrs: Tensor) -> Tensor:
        return knn(x, ctrs, 3, metric="haversine").distances

    assert gradcheck(of, (x, ctrs), check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    assert gradgradcheck(of, (x, ctrs), check_fwd_over_rev=True, check_batched_grad=True, fast_mode=True)
    rows = torch.func.vmap(torch.func.grad(lambda row: of(row[None], ctrs.detach()).sum()))(x.detach())
    assert torch.allclose(rows, torch.autograd.grad(of(x, ctrs).sum(), x)[0])


def test_torch_compiles_it_whole() -> None:
    x, ctrs = places(20).requires_grad_(), places(50, seed=1).requires_grad_()

    def of(x: Tensor, ctrs: Tensor) -> Tensor:
        return knn(x, ctrs, 3, metric="haversine").distances.square().sum()

    compiled = torch.compile(of, backend="aot_eager", fullgraph=True)
    expected, found = (torch.autograd.grad(call(x, ctrs), (x, ctrs)) for call in (of, compiled))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_where_there_is_no_derivative_it_is_0() -> None:
    x = torch.tensor([[0.3, 0.4], [0.0, 0.0], [math.nan, 0.0]], dtype=torch.float64, requires_grad=True)
    ctrs = torch.tensor([[0.3, 0.4], [0.0, math.pi]], dtype=torch.float64, requires_grad=True)
    found = knn(x, ctrs, 3, metric="haversine").distances
    found[0, 0].backward(retain_graph=True)  # the very place
    found[1, 1].backward(retain_graph=True)  # the opposite one
    found[:, 2].sum().backward()  # none
    assert found[1, 1] == math.pi
    assert (x.grad == 0).all()
    assert (ctrs.grad == 0).all()


def test_other_numbers_of_columns_are_an_error_that_names_the_argument() -> None:
    x = torch.zeros(4, 3)
    for name, call in {
        "x": lambda: knn(x, x, 1, metric="haversine"),
        "ctrs": lambda: CenterIndex(x, metric="haversine"),
        " ctrs": lambda: NearestCenters(x, 1, metric="haversine"),
        "  ctrs": lambda: CenterIndex(x).prepare(5, 1, metric="haversine"),
    }.items():
        with pytest.raises(ValueError, match=f"^{name.strip()} must have 2 columns for metric='haversine'"):
            call()


def true_members(x: Tensor, ctrs: Tensor, radii: list[Tensor]) -> list[list[list[int]]]:
    """Return for each of the radii the centres within that of each row, ascending, by mpmath."""
    rows, centres = true_points(x).tolist(), true_points(ctrs).tolist()
    found: list[list[list[int]]] = [[] for _ in radii]
    with mpmath.workdps(60):
        for i, row in enumerate(rows):
            squares = [true_square(row, centre) for centre in centres]
            far = [
                (j, 2 * mpmath.asin(min(1, mpmath.sqrt(d) / 2))) for j, d in enumerate(squares) if not mpmath.isnan(d)
            ]
            for members, r in zip(found, radii, strict=True):
                members.append([j for j, angle in far if angle <= mpmath.mpf(r[i].item())])
    return found


def radii_of(x: Tensor, ctrs: Tensor) -> list[Tensor]:
    """Return radii that are distances, one ulp to either side of these, and the ends of what there are."""
    at = knn(x, ctrs, 9, metric="haversine").distances[:, 8].double().nan_to_num(nan=0.5)
    up, down = (torch.nextafter(at, torch.tensor(end, dtype=torch.float64)) for end in (9.0, 0.0))
    ends = [0.0, 5e-324, 1e-160, 2.45e-16, math.pi, math.nextafter(math.pi, 4.0), math.inf]
    return [at, up, down, *(torch.full((len(x),), end, dtype=torch.float64) for end in ends)]


def test_who_is_within_an_angle_is_decided_exactly() -> None:
    x, ctrs = hard()
    ctrs[90:95] = x[5] * torch.tensor([-1.0, 1.0]) + torch.tensor([0.0, math.pi])  # opposite
    index = CenterIndex(ctrs, metric="haversine")
    radii = radii_of(x, ctrs)
    for r, expected in zip(radii, true_members(x, ctrs, radii), strict=True):
        found = radius(x, ctrs, r, metric="haversine", sort_by="index")
        assert [part.tolist() for part in found.indices.split(found.counts.tolist())] == expected
        assert radius_count(x, ctrs, r, metric="haversine").tolist() == list(map(len, expected))
        cut = knn(x, ctrs, 30, metric="haversine", r=r).indices
        nearest = knn(x, ctrs, 30, metric="haversine").indices
        assert all(
            row.tolist() == [j if j in members else -1 for j in near.tolist()]
            for row, near, members in zip(cut, nearest, expected, strict=True)
        )
        kept = index.radius(x, r)
        ours = radius(x, ctrs, r, metric="haversine")
        assert torch.equal(kept.indices, ours.indices)
        assert same_bits(kept.distances, ours.distances)


def test_a_radius_among_many_is_that_of_all_distances() -> None:
    x, ctrs = places(2000, torch.float32), places(6000, torch.float32, seed=1)
    found = radius(x, ctrs, 0.05, metric="haversine")
    tree = BallTree(ctrs.double().numpy(), metric="haversine")
    counts = torch.from_numpy(tree.query_radius(x.double().numpy(), 0.05, count_only=True))
    assert torch.equal(found.counts, counts)
    batch = torch.arange(2000) // 10
    edges = radius_graph(x, 0.5, batch, metric="haversine")
    assert (batch[edges[0]] == batch[edges[1]]).all()
    alone = radius_graph(x[:10], 0.5, metric="haversine")
    assert torch.equal(edges[:, edges[1] < 10], alone)
