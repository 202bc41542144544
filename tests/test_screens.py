"""Every screen that runs here keeps one contract on every problem, and prepares centres for any number of rows."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import knows, make_plan
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import join
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.seen import Seen
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.report import Report, watch_knn
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.contract import Asked, Screen
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers
from plans import SCREENS_HERE, changed
from problems import PROBLEMS, gaussian

CPU = this_machine(torch.device("cpu"))
METRICS = ("euclidean", "manhattan", "chebyshev")
KNOWN = [(screen, name) for screen in SCREENS_HERE for name in METRICS if knows(screen, metric_named(name).form)]
by_name = pytest.mark.parametrize(("screen", "metric"), KNOWN, ids=[f"{screen.name}-{name}" for screen, name in KNOWN])


def asked(screen: Screen, metric: str, x: Tensor, centres: Centres, k: int, workers: Workers) -> Asked:
    """Return a search as a screen meets it."""
    plan = make_plan(len(x), len(centres), x.shape[1], k, len(centres), machine=CPU, metric=metric)
    plan = changed(plan, screen=screen.name, at_once_rows=0, width=-1)
    reader = Reader(workers, kernels=True)
    frame = join(Seen(Points(x), reader), centres.seen(reader), reader)
    return Asked(Points(x), centres, lambda: frame, plan, Report(plan), workers)


def true_values(metric: str, row: list[float], ctrs: list[list[float]]) -> list[Fraction | None]:
    """Return order values of a row with each centre as fractions; None where a centre is not finite."""
    found: list[Fraction | None] = []
    for centre in ctrs:
        if any(abs(value) == torch.inf or value != value for value in centre):
            found.append(None)
        else:
            gaps = [abs(Fraction(a) - Fraction(b)) for a, b in zip(row, centre, strict=True)]
            of_gaps = {"euclidean": sum(gap**2 for gap in gaps), "manhattan": sum(gaps), "chebyshev": max(gaps)}
            found.append(Fraction(of_gaps[metric]))
    return found


def spare(ctrs: list[list[float]], k: int) -> set[int]:
    """Return the centres that have k copies of lower number, which no screen need list."""
    seen: dict[tuple[float, ...], int] = {}
    found = set()
    for j, centre in enumerate(ctrs):
        seen[tuple(centre)] = seen.get(tuple(centre), 0) + 1
        if seen[tuple(centre)] > k:
            found.add(j)
    return found


@by_name
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_centre_that_is_not_listed_is_at_least_as_far_as_excluded(screen: Screen, metric: str, name: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    x, k = x[torch.isfinite(x.double()).all(dim=1)][:3], min(k, len(ctrs) // 2)
    if len(x) == 0 or x.shape[1] == 0:
        return
    with Workers(1, pool=False) as workers:
        search = asked(screen, metric, x, Centres(Points(ctrs)), k, workers)
        if screen.why_not_here(search):
            assert (screen.name == "line" and x.shape[1] > 1) or not (
                search.frame.in_float64 and search.frame.ctrs_finite and search.frame.fits_float32
            )
            return
        meeting = screen.prepare(search.centres, search.frame.place, search.plan, workers).meet(search)
        if meeting is None:
            assert not search.frame.in_float64
            return
        next(iter(meeting.turns()))
        found = meeting.listers[len(meeting.listers) - 1].candidates(Rows(x, torch.arange(len(x))))
    degree = metric_named(metric).degree
    unit, copies = Fraction(2**degree) ** search.frame.verify_exponent, spare(ctrs.tolist(), k)
    for i, row in enumerate(x.tolist()):
        listed = [j for j in found.indices[i].tolist() if j >= 0]
        assert len(set(listed)) == len(listed)
        excluded = float(found.excluded[i])
        if excluded == -torch.inf:
            continue  # it cannot tell: the row climbs
        truth = true_values(metric, row, ctrs.tolist())
        others = [d for j, d in enumerate(truth) if d is not None and j not in listed and j not in copies]
        if excluded == torch.inf:  # the list holds the whole answer
            nearest = sorted((d, j) for j, d in enumerate(truth) if d is not None)[:k]
            assert {j for _, j in nearest} <= set(listed)
        else:
            assert all(d >= Fraction(excluded) * unit for d in others)


def kinds_of_rows() -> dict[str, Tensor]:
    x = gaussian(n=300, n_ctrs=2, d=6).x
    return {
        "float32": x,
        "float64": x.double() * (1.0 + 2.0**-40),
        "float16": x.half(),
        "on a lattice": (x * 8).round() / 8,
        "integers": (x * 50).long(),
        "far off": x[:20] * 2.0**60,  # every pair of them is compared exactly
        "tiny": x * 2.0**-60,
        "with rows that are not finite": torch.where(x > 2.0, torch.nan, x),
        "few": x[:3],
    }


@pytest.mark.parametrize(
    ("screen", "metric", "step"),
    [(*known, step) for known in KNOWN for step in ((0, 1, 8) if known[1] == "euclidean" else (1,))],
)
def test_centres_prepared_once_answer_rows_of_any_kind_as_if_prepared_for_them(
    screen: Screen, metric: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctrs = gaussian(n=2, n_ctrs=3000, d=6).ctrs
    ctrs = (ctrs * step).round() / step if step else ctrs
    kept, count = Centres(Points(ctrs)), 0
    prepare: Callable[..., object] = type(screen).prepare

    def counting(*arguments: object) -> object:
        nonlocal count
        count += 1
        return prepare(*arguments)

    for x in kinds_of_rows().values():
        plan = make_plan(len(x), len(ctrs), x.shape[1], 5, len(ctrs), machine=CPU, metric=metric)
        plan = changed(plan, screen=screen.name, at_once_rows=0)
        fresh = search(Points(x), Centres(Points(ctrs)), plan)
        with monkeypatch.context() as patch:
            patch.setattr(type(screen), "prepare", counting)
            assert torch.equal(search(Points(x), kept, plan), fresh)
            once = count
            assert torch.equal(search(Points(x), kept, plan), fresh)
            assert count == once
    if screen.name in ("tree", "dense"):
        assert count == 1


def test_what_other_searches_prepared_changes_no_report() -> None:
    problem = gaussian(n=2000, n_ctrs=3000, d=6)
    plan = make_plan(2000, 3000, 6, 5, 3000, machine=CPU)
    kept = Centres(Points(problem.ctrs))
    with watch_knn() as reports:
        for _ in range(3):
            search(Points(problem.x), kept, plan)
        search(Points(problem.x), Centres(Points(problem.ctrs)), plan)
    assert len({str(report) for report in reports}) == 1
