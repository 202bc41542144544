"""Each stage keeps its promise on its own: bounds, packing, screen, canary, double-double, settle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from janelia_core.ml._knn.arithmetic.bounds import DistanceBound
from janelia_core.ml._knn.arithmetic.double_double import cosine_keys, square_distances
from janelia_core.ml._knn.arithmetic.integers import common_integers
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.frame import Place, survey
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.find import find
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.screens.portable import packing
from janelia_core.ml._knn.screens.portable import screen as screen_portable
from janelia_core.ml._knn.screens.portable.packing import CUT_BITS, FULL_BITS, pack_ctrs, pack_rows
from janelia_core.ml._knn.screens.portable.screen import PackedCentres, PortableScreen
from janelia_core.ml._runtime.machine import Machine
from janelia_core.ml.extra_torch_functions import knn_mc
from oracle import nearest, wrong_rows
from plans import changed, rows_of, run
from problems import PROBLEMS, far_clusters, gaussian, nearly_equidistant

FINITE = [name for name in PROBLEMS if "finite" not in name]


def watched(x, ctrs, k, **changes):
    """Search by the portable screen, or as the changes to its plan say; return the answer and the report."""
    plan = changed(make_plan(len(x), len(ctrs), x.shape[1], k, len(ctrs)), **({"screen": "portable"} | changes))
    with watch_knn() as reports:
        found = run(x, ctrs, plan)
    return found, reports[0]


def true_distance(x, c):
    """Return D of two rows of numbers as a Fraction."""
    return sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(x, c, strict=True))


@pytest.mark.parametrize("name", FINITE)
def test_float64_distances_are_within_their_bound_of_the_truth(name):
    x, ctrs, _, _ = PROBLEMS[name]()
    x, ctrs = x[:2], ctrs[:40]
    frame = survey(Points(x), Points(ctrs))
    bound = DistanceBound.of(x.shape[1], frame.exact)
    distances = metric_named("euclidean", frame.verify_exponent).block_values(x, ctrs, 100)[0]
    unit = Fraction(4) ** frame.verify_exponent
    for i, row in enumerate(x.tolist()):
        for j, centre in enumerate(ctrs.tolist()):
            true = true_distance(row, centre) / unit
            found = float(distances[i, j])
            lower = found * (1.0 - bound.relative) - bound.absolute
            assert Fraction(lower) <= true <= Fraction(found * (1.0 + bound.relative) + bound.absolute)


@pytest.mark.parametrize(
    ("name", "exact"),
    [("lattice", True), ("gaussian-torch.uint8", True), ("line-torch.float32", True), ("duplicates", False)],
)
def test_lattice_data_is_recognised_as_exact(name, exact):
    x, ctrs, _, _ = PROBLEMS[name]()
    assert survey(Points(x), Points(ctrs)).exact == exact


@pytest.mark.parametrize("bits", [FULL_BITS, CUT_BITS])
@pytest.mark.parametrize("name", FINITE)
def test_the_packed_product_is_an_upper_bound_of_the_score(name, bits):
    x, ctrs, _, _ = PROBLEMS[name]()
    x, ctrs = x[:2], ctrs[:40]
    frame = survey(Points(x), Points(ctrs))
    rows, packed = pack_rows(x, frame.place, bits), pack_ctrs(ctrs, frame.place, bits)
    scores = torch.mm(rows.packed, packed.T)
    shift, unit = [Fraction(v) for v in frame.place.shift.tolist()], Fraction(2) ** -frame.place.exponent
    origin = [0] * x.shape[1]
    for i, row in enumerate(x.tolist()):
        u = [Fraction(v) * unit - s for v, s in zip(row, shift, strict=True)]
        square = true_distance(u, origin)
        assert Fraction(float(rows.square_low[i])) <= square
        for j, centre in enumerate(ctrs.tolist()):
            w = [Fraction(v) * unit - s for v, s in zip(centre, shift, strict=True)]
            assert square - 2 * Fraction(float(scores[i, j])) <= true_distance(u, w)


@pytest.mark.parametrize("name", FINITE)
def test_so_is_the_product_with_centres_as_they_are_stored(name):
    """Also where coordinates are so small that a processor may take them for zero."""
    x, ctrs, _, _ = PROBLEMS[name]()
    x, ctrs = x[:2].float().nan_to_num_(), ctrs[:40].float().nan_to_num_()
    scale = max(float(ctrs.abs().max()), 1e-30)
    x, ctrs = (x / scale).clamp_(-8.0, 8.0), ctrs / scale
    ctrs[:20, ::2] *= 2.0**-130
    place = Place(torch.zeros(x.shape[1], dtype=torch.float64), -3)
    products = make_plan(2, len(ctrs), x.shape[1], 1, 70).products._replace(keep_packed=False)
    for metric in ("euclidean", "dot"):
        centres = PackedCentres(Points(ctrs), place, products, metric)
        assert centres.as_stored
        rows, block = centres.rows(x), centres.block(0, len(ctrs))
        assert block.more is not None
        scores = block.product(rows.packed)
        for i, row in enumerate(x.tolist()):
            u = [8 * Fraction(v) for v in row]
            for j, centre in enumerate(ctrs.tolist()):
                w = [8 * Fraction(v) for v in centre]
                least = sum(a * b for a, b in zip(u, w, strict=True))
                least -= sum(b * b for b in w) / 2 if metric == "euclidean" else 0
                assert Fraction(float(scores[i, j])) >= least


def test_the_bound_is_tight_enough_to_exclude_all_but_a_few():
    x, ctrs, k, _ = gaussian(n=500, n_ctrs=3000, d=32)
    for screen in ("portable", "dense", "tree"):
        report = watched(x, ctrs, k, screen=screen)[1]
        assert (report.n_screened, report.n_escalated, report.n_exhaustive) == (500, 0, 0)


def test_the_certificate_is_never_above_an_excluded_centre():
    x, ctrs, k, _ = far_clusters()
    frame = survey(Points(x), Points(ctrs))
    plan = make_plan(len(x), len(ctrs), x.shape[1], k, 70)
    centres = PackedCentres(Points(ctrs), frame.place, plan.products, "euclidean")
    indices, excluded, _ = PortableScreen(centres, frame.verify_exponent).candidates(rows_of(x))
    for i, row in enumerate(x.tolist()):
        outside = set(range(len(ctrs))) - set(indices[i].tolist())
        nearest_outside = min(true_distance(row, ctrs[j].tolist()) for j in outside)
        assert Fraction(float(excluded[i])) * Fraction(4) ** frame.verify_exponent <= nearest_outside


@pytest.mark.parametrize("what", ["product", "product with centres as stored", "distance"])
def test_a_loosened_bound_is_caught(monkeypatch, what):
    """A margin left out makes wrong neighbours, and the comparison with the oracle sees them."""
    x, ctrs, k, _ = PROBLEMS["swapped-coordinates"]() if what == "distance" else nearly_equidistant(40, 1000)
    plan = changed(make_plan(len(x), len(ctrs), x.shape[1], k, 1000), screen="portable")
    assert wrong_rows(x, ctrs, run(x, ctrs, plan)) == []
    honest = packing.pack_ctrs

    def loosened(values, place, bits, product, chunk):
        packed = honest(values, place, bits, product, chunk)
        packed[:, -2] = -0.5 * place.apply(values).square().sum(dim=1)
        packed[:, -1] = 0.0
        return packed

    def loosened_beside(values, place, product, chunk):
        bias = -0.5 * values.double().square().sum(dim=1) * 4.0**-place.exponent
        return torch.stack([bias, torch.zeros_like(bias)], dim=1).float()

    if what == "product":
        monkeypatch.setattr(screen_portable, "serve_as_stored", lambda *_: False)
        monkeypatch.setattr(screen_portable, "pack_ctrs", loosened)
        plan = changed(plan, width=k)
    elif what == "product with centres as stored":
        monkeypatch.setattr(screen_portable, "more_columns", loosened_beside)
        plan = changed(plan, width=k)
    else:
        monkeypatch.setattr(DistanceBound, "of", lambda d, exact: DistanceBound(0.0, 0.0))
    assert wrong_rows(x, ctrs, run(x, ctrs, plan)) != []


def test_a_broken_product_is_noticed_and_the_answer_stays_exact(monkeypatch):
    """The canary: a product that rounds its operands to 8 bits behind our back."""
    x, ctrs, k, _ = gaussian(n=40, n_ctrs=500)
    honest = torch.mm

    def rounding(a, b, out=None):
        return honest(a.bfloat16().float(), b.bfloat16().float(), out=out)

    monkeypatch.setattr(screen_portable.torch, "mm", rounding)
    got, report = watched(x, ctrs, k)
    assert report.n_exhaustive == 40
    assert wrong_rows(x, ctrs, got) == []


def test_operands_cut_to_eight_bits_survive_a_product_that_rounds_them(monkeypatch):
    x, ctrs, k, _ = gaussian(n=40, n_ctrs=500)
    expected, honest = nearest(x, ctrs, k), torch.mm
    monkeypatch.setattr(
        screen_portable.torch, "mm", lambda a, b, out=None: honest(a.bfloat16().float(), b.bfloat16().float(), out=out)
    )
    assert (
        make_plan(len(x), len(ctrs), x.shape[1], k, 500, machine=Machine(exact_products=False)).products.operand_bits
        == 8
    )
    got, report = watched(x, ctrs, k, operand_bits=8)
    assert torch.equal(got, expected)
    assert report.n_exhaustive == 0


def test_double_double_distances_are_within_their_measured_error():
    rng = np.random.default_rng(0)
    x, c = rng.standard_normal((2, 60, 7)) * 2.0 ** rng.integers(-30, 30, (2, 60, 7))
    c[::4] = x[::4] * (1 + 2.0**-50)
    hi, lo, error = square_distances(x, c)
    for i in range(60):
        assert abs(true_distance(x[i], c[i]) - Fraction(hi[i]) - Fraction(lo[i])) <= Fraction(error[i])


def test_cosine_keys_order_as_the_true_ones_and_tie_where_those_tie():
    rng = np.random.default_rng(2)
    counts = rng.integers(-3, 4, (2, 400, 5)).astype(float)
    scaled = rng.standard_normal((2, 60, 7)) * 2.0 ** rng.integers(-300, 300, (2, 60, 1))
    for (xs, cs), short in ((counts, True), (scaled, False)):
        xs = np.repeat(xs[:1], len(cs), axis=0)
        hi, lo, error = cosine_keys(xs, cs * 2.0 ** rng.integers(-9, 9, (len(cs), 1)))
        assert bool((error == 0).all()) == short
        unit = Fraction(1, 4 ** int(np.frexp(np.abs(xs[0]).max())[1]))
        truth = [Fraction(metric_named("cosine").key(*common_integers([xs[0].tolist(), c.tolist()])[0])) for c in cs]
        scales = [Fraction(1, common_integers([xs[0].tolist(), c.tolist()])[1]) ** 2 for c in cs]
        truth = [value * scale * unit for value, scale in zip(truth, scales, strict=True)]
        for i, value in enumerate(truth):
            assert abs(value - Fraction(hi[i]) - Fraction(lo[i])) <= Fraction(error[i]) + abs(value) / 2**104
        pairs = set(zip(truth, hi.tolist(), lo.tolist(), strict=True))
        assert len(pairs) == len(set(truth)) == len({pair[1:] for pair in pairs})


def test_double_double_knows_when_it_is_exact():
    rng = np.random.default_rng(1)
    x, c = rng.standard_normal((2, 60, 7)).astype(np.float32).astype(np.float64)
    hi, lo, error = square_distances(x, c)
    assert (error == 0).mean() > 0.9
    for i in np.flatnonzero(error == 0):
        assert true_distance(x[i], c[i]) == Fraction(hi[i]) + Fraction(lo[i])


@pytest.mark.parametrize(
    ("name", "stage"),
    [("duplicates", "identical"), ("swapped-coordinates", "double_double"), ("subnormals-torch.float64", "integers")],
)
def test_ties_are_settled_by_the_cheapest_stage_that_can(name, stage):
    x, ctrs, k, _ = PROBLEMS[name]()
    assert getattr(watched(x, ctrs, k)[1].settled, stage) > 0


def test_lattice_ties_cost_no_settling_at_all():
    x, ctrs, k, _ = PROBLEMS["lattice"]()
    settled = watched(x, ctrs, k)[1].settled
    assert (settled.identical, settled.double_double, settled.integers) == (0, 0, 0)


def test_a_plan_and_a_report_can_be_read():
    x, ctrs, k, _ = gaussian()
    text = str(watched(x, ctrs, k, ctr_block=100)[1])
    for words in (
        "20 x 200 points in 6 dimensions, k = 5",
        "screen: portable",
        "x 100 centres",
        "workspace",
        "escalated",
    ):
        assert words in text


def test_small_problems_are_searched_at_once_and_doubtful_rows_take_the_ladder():
    x, ctrs, k, _ = PROBLEMS["near-swapped"]()
    x = torch.cat([x, x + torch.rand(5, 4)[:3]])
    with watch_knn() as reports:
        got = knn_mc(x, ctrs, k, 1000)
    assert reports[0].plan.at_once_rows
    assert reports[0].settled.double_double + reports[0].settled.integers > 0
    assert torch.equal(got, nearest(x, ctrs, k))


@pytest.mark.parametrize(
    ("shape", "screen"),
    [((100, 50, 3, 5), "none"), ((3000, 5000, 3, 10), "tree"), ((3000, 5000, 40, 10), "dense")],
)
def test_the_plan_takes_the_screen_for_the_shape_and_says_why(shape, screen):
    plan = make_plan(*shape, m=10**6, machine=Machine(on_cpu=True, kernels=True, threads=2))
    assert plan.screen == screen
    assert plan.reason in str(plan)
    assert make_plan(*shape, m=10**6).screen in ("none", "portable")


@pytest.mark.parametrize("screen", ["tree", "dense"])
def test_a_screen_that_cannot_serve_says_what_ran_instead(screen):
    x, ctrs, k, _ = PROBLEMS["overflow-torch.float64"]()
    got, report = watched(x, ctrs, k, screen=screen)
    assert "extreme magnitude" in report.screen
    assert report.screen in str(report)
    assert torch.equal(got, nearest(x, ctrs, k))


@pytest.mark.parametrize("name", ["manhattan", "chebyshev"])
def test_double_double_sums_and_maxima_of_differences_are_within_their_measured_error(name):
    rng, metric = np.random.default_rng(0), metric_named(name)
    x, c = rng.standard_normal((2, 60, 7)) * 2.0 ** rng.integers(-30, 30, (2, 60, 7))
    x[0, 0], c[1] = 2.0**-1060, x[1] + 2.0**-40  # which a processor may flush; one difference for all coordinates
    hi, lo, error = metric.sums(x, c)
    assert error[0] > 0
    for row in range(60):
        (xs, cs), unit = common_integers([x[row].tolist(), c[row].tolist()])
        truth = Fraction(metric.key(xs, cs), unit)
        assert abs(Fraction(hi[row]) + Fraction(lo[row]) - truth) <= Fraction(error[row])
        assert error[row] <= hi[row] * 2.0**-100
    assert name == "manhattan" or not error[1:].any()


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev"])
def test_sums_of_the_same_differences_in_another_order_tie_without_integers(metric):
    g = torch.Generator().manual_seed(0)
    row, gaps = torch.zeros(1, 9, dtype=torch.float64), torch.rand(9, generator=g, dtype=torch.float64)
    ctrs = torch.stack([gaps[torch.randperm(9, generator=g)] for _ in range(300)]) * (torch.rand(300, 9) - 0.5).sign()
    with watch_knn() as reports:
        found = find(row, ctrs, 50, metric=metric)
    assert found[:, 0].tolist() == list(range(50))
    assert metric == "chebyshev" or reports[0].settled.double_double > 0
    assert reports[0].settled.integers == 0
