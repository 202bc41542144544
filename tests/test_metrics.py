"""Metrics other than Euclidean: the same unique answers, by every way through the ladder, with and without masks."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from janelia_core.ml._knn import reference
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.directions import direction_error, directions
from janelia_core.ml._knn.data.frame import survey
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.find import find
from janelia_core.ml._knn.metrics.cosine import Cosine
from janelia_core.ml._knn.metrics.dot import Dot
from janelia_core.ml._knn.metrics.metric import FORMS
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.screens.dense.centres import DenseCentres
from janelia_core.ml._knn.screens.dense.formats import FORMATS
from janelia_core.ml._knn.screens.dense.screen import DenseScreen
from janelia_core.ml._knn.screens.direct.screen import DirectScreen
from janelia_core.ml._knn.screens.portable import screen as screen_portable
from janelia_core.ml._knn.verify.verify import ordered
from janelia_core.ml._runtime.machine import Machine
from janelia_core.ml._runtime.workers import Workers
from oracle import nearest
from plans import changed, rows_of, run
from problems import KINDS, LOW_FORMATS, PROBLEMS, gaussian, nearly_parallel

METRICS = ("dot", "cosine")
ABSOLUTE = ("manhattan", "chebyshev")
WAYS = (
    {"screen": "none", "fallback_rows": 3, "fallback_ctrs": 17, "fallback_pairs": 1},
    {"screen": "tree"},
    {"screen": "dense", "workers": 2, "row_block": 3, "pack_bytes": 10**6},
    *({"screen": "dense", "formats": (name, "float32")} for name in LOW_FORMATS),
    {"screen": "portable"},
    {"screen": "portable", "width": -1},
    {"screen": "portable", "operand_bits": 8},
    {
        "screen": "portable",
        "row_block": 3,
        "ctr_block": 29,
        "fallback_rows": 2,
        "fallback_ctrs": 5,
        "fallback_pairs": 7,
    },
)


def searched(x, ctrs, k, metric, allowed=None, **changes):
    """Search with a plan whose fields were changed."""
    plan = make_plan(len(x), len(ctrs), x.shape[1], k, 10**6, metric=metric, masked=allowed is not None)
    with watch_knn() as reports:
        found = run(x, ctrs, changed(plan, **changes), allowed)
    return found, reports[0]


def ways_of(metric):
    """Return the ways that know a metric: those that multiply know three."""
    return WAYS if metric_named(metric).form in FORMS else WAYS[:1]


def tiles_of(table):
    """Return the function that hands out tiles of a boolean table (n_smps, n_ctrs)."""
    return lambda rows, start, stop: table[rows, start:stop]


@pytest.mark.parametrize("metric", [*METRICS, *ABSOLUTE])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_answer_is_the_exact_one_whatever_the_screen(name, metric):
    x, ctrs, k, _ = PROBLEMS[name]()
    x = x[:8]
    expected = nearest(x, ctrs, k, metric)
    assert torch.equal(find(x, ctrs, k, metric=metric), expected)
    for changes in ways_of(metric) if name in KINDS else ways_of(metric)[2:4]:
        assert torch.equal(searched(x, ctrs, k, metric, **changes)[0], expected), changes


@pytest.mark.parametrize("metric", [*METRICS, *ABSOLUTE])
@pytest.mark.parametrize("name", KINDS)
def test_the_reference_agrees_with_the_oracle(name, metric):
    x, ctrs, k, _ = PROBLEMS[name]()
    assert torch.equal(reference.nearest(x[:2], ctrs[:300], k, metric), nearest(x[:2], ctrs[:300], k, metric))


@pytest.mark.parametrize("metric", [*METRICS, *ABSOLUTE])
@pytest.mark.parametrize("name", KINDS)
def test_the_order_of_all_centres_is_the_exact_one(name, metric):
    x, ctrs, _, _ = PROBLEMS[name]()
    x, ctrs = x[:2], ctrs[:300]
    assert torch.equal(find(x, ctrs, len(ctrs), metric=metric), nearest(x, ctrs, len(ctrs), metric))


@pytest.mark.parametrize("metric", ["euclidean", *METRICS, *ABSOLUTE])
@pytest.mark.parametrize("name", KINDS)
def test_a_mask_never_lets_a_denied_centre_through(name, metric):
    x, ctrs, k, _ = PROBLEMS[name]()
    x = x[:6]
    g = torch.Generator().manual_seed(0)
    table = torch.rand(len(x), len(ctrs), generator=g) < torch.tensor([0.5, 0.9, 0.02, 1.0, 0.0, 0.2])[: len(x), None]
    expected = nearest(x, ctrs, k, metric, table)
    assert torch.equal(find(x, ctrs, k, metric=metric, allowed=tiles_of(table)), expected)
    for changes in (*ways_of(metric)[:1], *ways_of(metric)[2:3], *ways_of(metric)[-1:]):
        assert torch.equal(searched(x, ctrs, k, metric, tiles_of(table), **changes)[0], expected), changes


@pytest.mark.parametrize("metric", ["euclidean", *METRICS])
def test_a_mask_on_a_drawn_subset_is_asked_for_row_numbers_of_all_centres(metric):
    x, ctrs, k, _ = gaussian(n=12, n_ctrs=1500, d=4)
    g = torch.Generator().manual_seed(0)
    table = torch.rand(12, 1500, generator=g) < 0.3
    asked = []

    def allowed(rows, start, stop):
        asked.append(stop - start)
        return table[rows, start:stop]

    for share in (0.02, 0.5, 1.0):
        subset = (torch.rand(1500, generator=g) < share).nonzero()[:, 0]
        drawn = torch.zeros(1500, dtype=torch.bool)
        drawn[subset] = True
        got = find(x, ctrs, k, m=200, subset=subset, metric=metric, allowed=allowed)
        assert torch.equal(got, nearest(x, ctrs, k, metric, table & drawn))
    assert max(asked) <= 200


def test_a_mask_of_another_shape_or_dtype_is_refused():
    x, ctrs, k, _ = gaussian()
    for wrong in (lambda r, i, j: torch.ones(len(r), j - i), lambda r, i, j: torch.ones(1, j - i, dtype=torch.bool)):
        with pytest.raises(
            ValueError, match=r"mask\(rows, 0, 200\) must return a bool tensor of shape \(20, 200\), got"
        ):
            find(x, ctrs, k, allowed=wrong)
    with pytest.raises(TypeError, match="got list"):
        find(x, ctrs, k, allowed=lambda rows, start, stop: [True])


def test_rows_exclude_themselves_by_index_even_among_copies():
    x = gaussian(n=300, n_ctrs=1, d=16).x.repeat(2, 1)
    got = find(x, x, 1, allowed=lambda rows, i, j: rows[:, None] != torch.arange(i, j))
    assert torch.equal(got[0], torch.arange(600).roll(300))


def test_a_mask_without_any_coordinates_still_counts():
    table = torch.tensor([[False, True, False, True]])
    assert find(torch.zeros(1, 0), torch.zeros(4, 0), 3, allowed=tiles_of(table)).T.tolist() == [[1, 3, -1]]


@pytest.mark.parametrize("metric", METRICS)
def test_gaussian_rows_need_no_higher_rung(metric):
    x, ctrs, k, _ = gaussian(n=500, n_ctrs=3000, d=32)
    for changes in ({"screen": "portable"}, {"screen": "dense"}):
        report = searched(x, ctrs, k, metric, **changes)[1]
        assert (report.n_screened, report.n_escalated, report.n_exhaustive) == (500, 0, 0)
        assert report.screen == ""


def test_the_plan_gives_other_metrics_and_masks_a_screen_that_can_serve_them():
    machine = Machine(on_cpu=True, kernels=True, threads=2)
    for metric in METRICS:
        assert make_plan(30000, 50000, 3, 10, 10**6, machine=machine, metric=metric).screen == "dense"
    assert make_plan(30000, 50000, 30, 10, 10**6, machine=machine, masked=True).screen == "dense"


def test_infinite_centres_of_an_inner_product_come_first_or_last():
    ctrs = torch.tensor([[0.0, 1.0], [torch.inf, 0.0], [-torch.inf, 2.0], [torch.nan, 1.0], [5.0, torch.inf]])
    x = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, 1.0]])
    assert find(x, ctrs, 5, metric="dot").T.tolist() == [[1, 4, 0, 2, 3], [2, 4, 0, 1, 3], [4, 0, 1, 2, 3]]


def exact_value(metric, x, c):
    """Return the order value of two rows of numbers as a Fraction, within 2^-300 for cosines."""
    x, c = [Fraction(v) for v in x], [Fraction(v) for v in c]
    if metric in ABSOLUTE:
        return (sum if metric == "manhattan" else max)(abs(p - q) for p, q in zip(x, c, strict=True))
    s, xx, cc = (sum(p * q for p, q in zip(a, b, strict=True)) for a, b in ((x, c), (x, x), (c, c)))
    if metric == "dot":
        return -s
    if xx == 0 or cc == 0:
        return Fraction(1)
    square = s * s / (xx * cc)
    root = Fraction(math.isqrt((square.numerator << 640) // square.denominator), 1 << 320)
    return 1 - (root if s > 0 else -root)


@pytest.mark.parametrize("metric", [*METRICS, *ABSOLUTE])
@pytest.mark.parametrize("name", [name for name in KINDS if "finite" not in name])
def test_float64_values_are_within_their_error_of_the_truth(name, metric):
    x, ctrs, _, _ = PROBLEMS[name]()
    x, ctrs = x[:2], ctrs[:30]
    exponent = survey(Points(x), Points(ctrs)).verify_exponent
    scaled = metric_named(metric, exponent)
    ways = [(exponent, scaled.pair_values(x[:, None], ctrs)), (exponent, scaled.block_values(x, ctrs, 100))]
    if x.dtype in (torch.float32, torch.float64):
        listed = torch.arange(len(ctrs)).expand(len(x), -1)
        found = ordered(x, Points(ctrs), listed, metric_named(metric), compiled=True)
        in_order = found.indices.argsort(dim=1)
        ways.append((0, tuple(part.gather(1, in_order) for part in (found.value, found.error))))
    for power, (value, error) in ways:
        unit = Fraction(2) ** (scaled.degree * power)
        for i, row in enumerate(x.tolist()):
            for j, centre in enumerate(ctrs.tolist()):
                if torch.isfinite(error[i, j]) and torch.isfinite(value[i, j]):
                    off = abs(Fraction(float(value[i, j])) * unit - exact_value(metric, row, centre))
                    assert off <= Fraction(float(error[i, j])) * unit + Fraction(1, 1 << 300)
                else:
                    assert power == 0  # kernels leave what overflows to others


@pytest.mark.parametrize("name", [name for name in KINDS if "finite" not in name])
def test_directions_are_within_their_error(name):
    values = PROBLEMS[name]().ctrs[:50]
    d = values.shape[1]
    for row, found in zip(values.tolist(), directions(values).tolist(), strict=True):
        square = sum(Fraction(v) ** 2 for v in row)
        for v, u in zip(row, found, strict=True):
            # |u| / |v| squared against 1 / |v|^2: no root is needed
            truth, got = Fraction(v) ** 2, Fraction(u) ** 2 * square
            assert abs(truth - got) <= 3 * Fraction(direction_error(d)) * truth + square * Fraction(2) ** -1990
            assert Fraction(v) * Fraction(u) >= 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", [name for name in KINDS if "finite" not in name])
def test_every_unlisted_centre_is_at_least_as_far_as_a_screen_says(name, metric):
    x, ctrs, k, _ = PROBLEMS[name]()
    x, k = x[:3], min(k, 4)
    frame = survey(Points(x), Points(ctrs), shifted=False)
    plan = changed(make_plan(len(x), len(ctrs), x.shape[1], k, 70, metric=metric), width=k)
    frame = frame.of_directions() if metric == "cosine" else frame
    truth = [[exact_value(metric, row, centre) for centre in ctrs.tolist()] for row in x.tolist()]
    centres = screen_portable.PackedCentres(Points(ctrs), frame.place, plan.products, metric)
    exponent = frame.verify_exponent
    screens = [(screen_portable.PortableScreen(centres, exponent), Fraction(4) ** exponent)]
    if frame.in_float64:
        for chosen in (*LOW_FORMATS, "float32"):
            screens.append((DenseScreen(DenseCentres(Points(ctrs), FORMATS[chosen], metric), k), Fraction(1)))
        for in_float64 in (False, True):
            direct = DirectScreen(Points(ctrs), metric_named(metric).form, k, in_float64)
            if direct.swept(rows_of(x), Workers(1, pool=False)).moderate:
                screens.append((direct, Fraction(1)))
    for screen, unit in screens:
        listed, excluded, _ = screen.candidates(rows_of(x))
        for i in range(len(x)):
            if abs(float(excluded[i])) != torch.inf:
                bound = Fraction(float(excluded[i])) * (unit if metric == "dot" else 1)
                outside = set(range(len(ctrs))) - set(listed[i].tolist())
                assert all(truth[i][j] >= bound - Fraction(1, 1 << 300) for j in outside)


def around_one_point(point):
    """Return 150 points that differ from the given one by a few units in the last place: their products tie or swap."""
    g = torch.Generator().manual_seed(18)
    return point * (1 + torch.randint(-4, 4, (150, len(point)), generator=g).double() * 2.0**-52)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("what", ["product", "value"])
def test_a_loosened_bound_is_caught(what, metric, monkeypatch):
    """A margin left out makes wrong neighbours, and the comparison with the oracle sees them."""
    if what == "value":
        x, ctrs, k = nearly_parallel(torch.float64).x, nearly_parallel(torch.float64).ctrs, 100
        ctrs = ctrs if metric == "cosine" else around_one_point(x[0])
    else:
        x, ctrs, k = gaussian(torch.float64, n=10).x, gaussian(torch.float64).ctrs, 5
        x, ctrs = 1 + 1e-8 * x, 1 + 1e-8 * ctrs  # below what float32 can resolve
    expected = nearest(x, ctrs, k, metric)
    assert torch.equal(searched(x, ctrs, k, metric, screen="portable")[0], expected)
    if what == "value":
        for honest in (Dot, Cosine):
            monkeypatch.setattr(honest, "bound", lambda self, d: (0.0, 0.0))
    else:
        honest = screen_portable.pack_ctrs

        def loosened(*arguments):
            packed = honest(*arguments)
            packed[:, -1] = 0.0
            return packed

        monkeypatch.setattr(screen_portable, "pack_ctrs", loosened)
    assert not torch.equal(searched(x, ctrs, k, metric, screen="portable", width=k)[0], expected)
