"""Screens that list all centres within a limit leave out none, and verification keeps those that are within."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.contract import Members
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import join
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.seen import Seen
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.distances.distances import distances
from janelia_core.ml._knn.distances.ragged import of_ragged
from janelia_core.ml._knn.metrics.gaps import WAYS
from janelia_core.ml._knn.metrics.metric import DISTANCE, Metric
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.radius import find
from janelia_core.ml._knn.radius.blocks import Settings
from janelia_core.ml._knn.radius.kernels import BY_INDEX, BY_VALUE, MEMBER, NO_ORDER, ORDER, Pairs, keep_within
from janelia_core.ml._knn.report import Report
from janelia_core.ml._knn.screens.contract import Asked, Meeting, Screen, Within
from janelia_core.ml._knn.screens.dense.within import DenseWithin
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers
from plans import SCREENS_HERE, changed, rows_of
from problems import KINDS, LOW_FORMATS, PROBLEMS, far_offset, gaussian, lattice

CPU = this_machine(torch.device("cpu"))
OF_RADIUS = [screen for screen in SCREENS_HERE if getattr(screen, "radius", False)]
by_name = pytest.mark.parametrize("screen", OF_RADIUS, ids=lambda screen: screen.name)
ASKED = [(screen, "euclidean") for screen in OF_RADIUS]
MORE = {"dense": ("dot", "cosine"), "tree": ("manhattan", "chebyshev")}
ASKED += [(screen, metric) for screen in OF_RADIUS for metric in MORE.get(screen.name, ())]


def meeting(
    screen: Screen, x: Tensor, ctrs: Tensor, metric: str = "euclidean", k: int = 2, **own: object
) -> Meeting | None:
    """Return rows and centres together, unless the values do not suit the screen."""
    plan = make_plan(len(x), len(ctrs), x.shape[1], k, len(ctrs), machine=CPU, metric=metric)
    plan = changed(plan, screen=screen.name, at_once_rows=0, **own)
    workers = Workers(1, pool=False)
    reader, centres, known = Reader(workers, kernels=True), Centres(Points(ctrs)), metric_named(metric)
    frame = join(Seen(Points(x), reader), centres.seen(reader), reader, known.form == DISTANCE)
    frame = frame.of_directions() if known.directed else frame
    asked = Asked(Points(x), centres, lambda: frame, plan, Report(plan), workers)
    return None if screen.why_not_here(asked) else screen.prepare(centres, frame.place, plan, workers).meet(asked)


def within(screen: Screen, x: Tensor, ctrs: Tensor, metric: str = "euclidean", k: int = 2, **own: object) -> Within:
    """Return who lists centres within a limit, for values that suit the screen."""
    met = meeting(screen, x, ctrs, metric, k, **own)
    assert met is not None
    assert met.within is not None
    return met.within


def sets(members: Members | None) -> list[set[int]]:
    """Return the centres listed for each row."""
    assert members is not None
    parts = members.indices.split(members.counts.tolist())
    assert all(len(set(part.tolist())) == len(part) for part in parts)
    return [set(part.tolist()) for part in parts]


def exactly(x: Tensor, ctrs: Tensor) -> list[list[Fraction]]:
    """Return the squared distances between finite points."""
    rows, centres = ([[Fraction(v) for v in row] for row in table.tolist()] for table in (x, ctrs))
    return [[sum(((a - b) ** 2 for a, b in zip(p, c, strict=True)), Fraction(0)) for c in centres] for p in rows]


def is_within(metric: str, p: list[Fraction], c: list[Fraction], limit: Fraction) -> bool:
    """Tell whether the true order value is at most the limit."""
    gaps = [abs(a - b) for a, b in zip(p, c, strict=True)]
    if metric in ("manhattan", "chebyshev"):
        return (max(gaps) if metric == "chebyshev" else sum(gaps, Fraction(0))) <= limit
    if metric == "euclidean":
        return sum((gap * gap for gap in gaps), Fraction(0)) <= limit
    s = sum((a * b for a, b in zip(p, c, strict=True)), Fraction(0))
    if metric == "dot":
        return -s <= limit
    squares, least = sum(a * a for a in p) * sum(b * b for b in c), 1 - limit  # cos >= least
    return least <= 0 if squares == 0 else s * abs(s) >= least * abs(least) * squares


def limits_of(distances: list[Fraction], at: int) -> list[float]:
    """Return limits at a distance, one unit in the last place to either side, none, a large and a negative one."""
    here = float(sorted(distances)[at])
    return [here, math.nextafter(here, -math.inf), math.nextafter(here, math.inf), 0.0, 1e300, -1e-30]


@pytest.mark.parametrize(("screen", "metric"), ASKED, ids=[f"{screen.name}-{metric}" for screen, metric in ASKED])
@pytest.mark.parametrize("part", range(4))
def test_all_centres_within_a_limit_are_listed(screen: Screen, metric: str, part: int) -> None:
    for name in KINDS[part :: 4 if metric == "euclidean" else 8]:
        lists_all_within(screen, metric, name)


def lists_all_within(screen: Screen, metric: str, name: str) -> None:
    """Check that a screen lists all within limits of a problem, if it takes the problem."""
    x, ctrs, _, _ = PROBLEMS[name]()
    x, ctrs = x[torch.isfinite(x.double()).all(dim=1)][:2], ctrs[:80]
    finite = torch.isfinite(ctrs.double()).all(dim=1).nonzero()[:, 0].tolist()
    met = meeting(screen, x, ctrs, metric) if len(x) and x.shape[1] else None
    if met is None:
        return  # not these values, or not this metric
    assert met.within is not None
    next(iter(met.turns()))
    rows, centres = ([[Fraction(v) for v in row] for row in table.tolist()] for table in (x, ctrs[finite]))
    values, _ = metric_named(metric).pairs(x[:1], ctrs[finite])
    for limit in limits_of([Fraction(v) for v in values.tolist()], len(finite) // 3):
        found = sets(met.within.members(rows_of(x), torch.full((len(x),), limit, dtype=torch.float64), 1 << 40))
        for row, listed in zip(rows, found, strict=True):
            true = {j for j, c in zip(finite, centres, strict=True) if is_within(metric, row, c, Fraction(limit))}
            assert true <= listed


@by_name
def test_few_centres_beyond_the_limit_are_listed(screen: Screen) -> None:
    x, ctrs, *_ = gaussian(n=200, n_ctrs=3000)
    values, _ = metric_named("euclidean").block(x, ctrs, 1 << 20)
    limit = values.kthvalue(20, dim=1).values
    found = within(screen, x, ctrs).members(rows_of(x), limit, 1 << 40)
    assert found is not None
    assert 20 * 200 <= len(found.indices) <= 24 * 200


@by_name
@pytest.mark.parametrize("sown", [False, True])
def test_all_copies_are_listed_whatever_k_lets_a_search_leave_out(screen: Screen, sown: bool) -> None:
    points = gaussian(n_ctrs=7).ctrs
    ctrs = points.repeat(60, 1) if not sown else torch.cat([points.repeat(60, 1), gaussian(n_ctrs=300).ctrs[7:]])
    found = within(screen, points, ctrs, k=1).members(rows_of(points), torch.zeros(7, dtype=torch.float64), 1 << 40)
    for i, listed in enumerate(sets(found)):
        assert {i + 7 * copy for copy in range(60)} <= listed


@by_name
def test_more_pairs_than_asked_for_are_refused(screen: Screen) -> None:
    x, ctrs, *_ = gaussian(n=40, n_ctrs=3000)
    who, limit = within(screen, x, ctrs), torch.full((40,), 1e4, dtype=torch.float64)
    assert who.members(rows_of(x), limit, 40 * 3000 - 1) is None
    assert who.members(rows_of(x[:0]), limit[:0], 0) is not None
    assert who.members(rows_of(x), torch.full_like(limit, -1.0), 0) is not None
    assert sets(who.members(rows_of(x), limit, 40 * 3000)) == [set(range(3000))] * 40


@by_name
def test_row_numbers_are_those_of_all_centres_where_some_are_not_finite(screen: Screen) -> None:
    x, ctrs, *_ = gaussian(n=3, n_ctrs=200)
    ctrs[::3] = torch.nan
    found = within(screen, x, ctrs).members(rows_of(x), torch.full((3,), 1e9, dtype=torch.float64), 1 << 40)
    assert sets(found) == [set(range(200)) - set(range(0, 200, 3))] * 3


def test_centres_that_are_packed_panel_by_panel_are_all_looked_at() -> None:
    (screen,) = (screen for screen in OF_RADIUS if screen.name == "dense")
    x, ctrs, *_ = gaussian(n=5, n_ctrs=600)
    limit = torch.full((5,), 40.0, dtype=torch.float64)
    whole = within(screen, x, ctrs, pack_bytes=1 << 30).members(rows_of(x), limit, 1 << 40)
    parts = within(screen, x, ctrs, pack_bytes=0, panel=64).members(rows_of(x), limit, 1 << 40)
    for row, *found in zip(exactly(x, ctrs), sets(whole), sets(parts), strict=True):
        assert all({j for j, d in enumerate(row) if d <= 40} <= listed for listed in found)
        assert all(len(listed) < 300 for listed in found)


@pytest.mark.skipif(len(LOW_FORMATS) == 0, reason="one format serves here")
def test_a_format_that_lists_in_vain_gives_way_to_a_finer_one() -> None:
    (screen,) = (screen for screen in OF_RADIUS if screen.name == "dense")
    g = torch.Generator().manual_seed(3)
    ctrs = torch.randn(2000, 8, generator=g) * 0.05 + torch.randn(2, 8, generator=g).repeat(1000, 1) * 10
    x, limit = ctrs[:200], torch.full((200,), 0.005, dtype=torch.float64)
    who = within(screen, x, ctrs)
    assert isinstance(who, DenseWithin)
    first, *_, then = (who.members(rows_of(x), limit, 1 << 40) for _ in range(3))
    assert first is not None
    assert then is not None
    assert len(then.indices) < 200 * 200
    assert who.members(rows_of(x), limit, 200 * 200) is not None


# Verification of what is listed.


def all_pairs(n: int, n_ctrs: int) -> tuple[Tensor, Tensor]:
    return torch.full((n,), n_ctrs), torch.arange(n_ctrs).flip(0).repeat(n)


def verified(
    x: Tensor, ctrs: Tensor, limit: Tensor, order: int, metric: Metric | None = None, low: float = 0.0
) -> tuple[list[list[int]], list[list[float]], list[int]]:
    """Return what verification keeps of all pairs, the values, and the flags of rows."""
    metric = metric or metric_named("euclidean")
    counts, indices = all_pairs(len(x), len(ctrs))
    kept, flags = np.empty(len(x), np.int64), np.empty(len(x), np.uint8)
    values = np.empty(len(indices) if order != NO_ORDER else 0)
    lows = np.full(len(x), low)
    own = np.empty(0, np.int64)
    pairs = Pairs(x.numpy(), ctrs.numpy(), counts.numpy(), indices.numpy(), limit.double().numpy(), lows, own)
    way = WAYS.get(metric.form, WAYS[DISTANCE])
    total = keep_within(metric.form, way, metric.bound(x.shape[1]), pairs, order, kept, values, flags)
    assert total == kept.sum()
    if order == NO_ORDER:
        assert torch.equal(indices, all_pairs(len(x), len(ctrs))[1])
        return [[0] * n for n in kept], [], flags.tolist()
    sizes = kept.tolist()
    listed = [part.tolist() for part in indices[:total].split(sizes)]
    return listed, [part.tolist() for part in torch.from_numpy(values[:total]).split(sizes)], flags.tolist()


@pytest.mark.parametrize(
    "name", ["gaussian-torch.float32", "gaussian-torch.float64", "lattice", "duplicates", "far-offset"]
)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_rows_without_a_flag_have_exactly_those_within_in_their_true_order(name: str, share: float) -> None:
    x, ctrs, *_ = PROBLEMS[name]()
    x = x[:6]
    truth = exactly(x, ctrs)
    limit = torch.tensor([float(sorted(row)[int(share * (len(row) - 1))]) for row in truth], dtype=torch.float64)
    by_value, values, flags = verified(x, ctrs, limit, BY_VALUE)
    by_index, _, _ = verified(x, ctrs, limit, BY_INDEX)
    counts, _, again = verified(x, ctrs, limit, NO_ORDER)
    for i, row in enumerate(truth):
        within_ = [j for _, j in sorted((d, j) for j, d in enumerate(row) if d <= Fraction(float(limit[i])))]
        assert set(within_) <= set(by_value[i])
        assert by_index[i] == sorted(by_value[i])
        assert len(counts[i]) == len(by_value[i])
        assert again[i] == flags[i] & MEMBER
        for j, value in zip(by_value[i], values[i], strict=True):
            assert abs(Fraction(value) - row[j]) <= Fraction(1e-14) * row[j]
        if flags[i] == 0:
            assert by_value[i] == within_
        if not flags[i] & MEMBER:
            assert set(by_value[i]) == set(within_)


def test_a_row_is_flagged_where_float64_cannot_tell_who_is_within_or_who_is_nearer() -> None:
    x = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    ctrs = torch.tensor([[0.1, 0.3], [0.3, 0.1], [5.0, 5.0]]).double()
    true = (ctrs[0] ** 2).sum()
    assert verified(x, ctrs, true[None], BY_VALUE)[2] == [MEMBER]
    listed, _, flags = verified(x, ctrs, torch.tensor([0.5]), BY_VALUE)
    assert (listed, flags) == ([[0, 1]], [0])  # the tie is settled by differences
    many = ctrs[torch.arange(200) % 2]
    assert verified(x, many, torch.tensor([0.5]), BY_VALUE)[2] == [ORDER]  # too many to settle here


def test_a_threshold_between_two_float64_numbers_is_told_by_its_low_part() -> None:
    x, ctrs, *_ = lattice()
    metric = metric_named("euclidean", exact=True)
    for low, within_ in ((-1e-20, 1), (0.0, 7), (1e-20, 7)):
        listed, _, flags = verified(x, ctrs, torch.full((len(x),), 0.25), BY_VALUE, metric, low)
        assert flags == [0] * len(x)
        assert {len(row) for row in listed} == {within_}


@pytest.mark.parametrize("metric", ["dot", "cosine", "manhattan", "chebyshev"])
def test_other_metrics_are_verified_likewise(metric: str) -> None:
    x, ctrs, *_ = gaussian(n=8)
    known = metric_named(metric)
    limit = known.block(x, ctrs, 1 << 20)[0].kthvalue(60, dim=1).values + 1e-9
    listed, values, flags = verified(x, ctrs, limit, BY_VALUE, known)
    assert flags == [0] * 8
    for i, row in enumerate(listed):
        assert len(row) == 60
        assert values[i] == sorted(values[i])
        p, *cs = ([Fraction(v) for v in point] for point in (x[i].tolist(), *ctrs.tolist()))
        assert set(row) == {j for j, c in enumerate(cs) if is_within(metric, p, c, Fraction(float(limit[i])))}


def test_long_lists_are_sorted_as_short_ones_are() -> None:
    x, ctrs, *_ = far_offset()
    limit = torch.full((len(x),), 1e9)
    listed, values, flags = verified(x, ctrs.repeat(4, 1), limit, BY_VALUE)
    assert flags == [0] * len(x)
    for row, far in zip(listed, values, strict=True):
        assert len(row) == 4 * len(ctrs)
        assert list(zip(far, row, strict=True)) == sorted(zip(far, row, strict=True))


# All of it.


def found_by(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, x: Tensor, ctrs: Tensor, r: Tensor, **asked: bool
) -> list[list[int]]:
    """Return the members of each row, as a screen lists them."""

    def by_screen(problem: Problem) -> Plan:
        plan = make_plan(*problem[:5], machine=problem.machine, metric=problem.metric)
        return changed(plan, screen=screen.name, at_once_rows=0)

    monkeypatch.setattr(find, "plan_radius", by_screen)
    rows: dict[int, list[int]] = {}

    def put(numbers: Tensor, counts: Tensor, indices: Tensor) -> None:
        listed = torch.split(indices, counts.tolist()) if len(indices) else [torch.arange(n) for n in counts]
        rows.update(zip(numbers.tolist(), (part.tolist() for part in listed), strict=True))

    find.find_within(x, ctrs, r, put, find.RadiusSearch("euclidean", None, 1 << 28, Settings(**asked)))
    return [rows[i] for i in range(len(x))]


@by_name
@pytest.mark.parametrize("name", [name for name in KINDS if "finite" not in name and "overflow" not in name])
def test_members_are_exactly_those_within_whatever_lists_them(
    screen: Screen, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, ctrs, *_ = PROBLEMS[name]()
    x, ctrs = x[:3], ctrs[:60]
    distances = exactly(x, ctrs)
    at = torch.tensor([math.sqrt(sorted(row)[len(row) // 4]) for row in distances], dtype=torch.float64)
    for r in (at, *(torch.nextafter(at, torch.tensor(end).double()).clamp(min=0.0) for end in (-torch.inf, torch.inf))):
        squares = [Fraction(radius) ** 2 for radius in r.tolist()]
        truth = [
            [j for d, j in sorted((d, j) for j, d in enumerate(row)) if d <= square]
            for row, square in zip(distances, squares, strict=True)
        ]
        assert found_by(screen, monkeypatch, x, ctrs, r) == truth
        assert found_by(screen, monkeypatch, x, ctrs, r, nearest=False) == [sorted(row) for row in truth]
        counted = found_by(screen, monkeypatch, x, ctrs, r, count_only=True)
        assert [len(row) for row in counted] == [len(row) for row in truth]


@by_name
def test_no_row_meets_itself_unless_asked_for(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    x = PROBLEMS["duplicates"]().ctrs
    radii = torch.zeros(len(x), dtype=torch.float64)
    for but_self in (False, True):
        found = found_by(screen, monkeypatch, x, x, radii, but_self=but_self)
        for i, row in enumerate(found):
            assert row == [j for j in range(i % 30, 210, 30) if not (but_self and j == i)]


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "manhattan", "chebyshev"])
@pytest.mark.parametrize("name", ["gaussian-torch.float32", "gaussian-torch.float64", "duplicates", "mixed-scales-32"])
def test_distances_of_ragged_pairs_are_those_of_pairs(metric: str, name: str) -> None:
    x, ctrs, *_ = PROBLEMS[name]()
    counts = torch.tensor([0, 3, 0, 17, 600, *[5] * (len(x) - 6), 0])
    indices = torch.arange(int(counts.sum())) * 7 % len(ctrs)
    rows, offsets = torch.arange(len(x)).repeat_interleave(counts), torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    found = of_ragged(x, ctrs, offsets, indices, metric, 1 << 24)
    if found is None:  # sums of double-doubles are of squares
        assert (metric, x.dtype) in (("manhattan", torch.float64), ("chebyshev", torch.float64))
    else:
        assert torch.equal(found, distances(x[rows], ctrs, indices[:, None], metric)[:, 0])
