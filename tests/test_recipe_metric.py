"""The recipe for a metric: one class and one line in the table, and every search is exact by it.

A sum of differences that counts the largest one twice, and a share that no factor changes, are added here as whoever
adds a metric would, with what a metric must say and no more. No screen and no compiled kernel knows them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from janelia_core.ml import knn
from janelia_core.ml._knn import reference
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.distances.distances import distances
from janelia_core.ml._knn.find import find
from janelia_core.ml._knn.merge import Running, compare, extend
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.metrics.registry import METRICS
from janelia_core.ml._knn.report import watch_knn
from problems import KINDS, PROBLEMS, Problem, gaussian

ROUNDED = 2.0**-52  # twice the unit roundoff pays for evaluating a bound


class Both(Metric):
    """The sum of |x_q - c_q| and the largest of them once more: d + 1 terms, each with up to three roundings."""

    degree: ClassVar[int] = 1
    exact_on_grids: ClassVar[bool] = True

    def key(self, x, c):
        gaps = [abs(a - b) for a, b in zip(x, c, strict=True)]
        return sum(gaps) + max(gaps, default=0)

    def beyond(self, x, c):
        return sum(abs(float(a) - float(b)) for a, b in zip(x, c, strict=True) if not math.isfinite(a + b))

    def pair_values(self, x, c):
        gaps, d = torch.nn.functional.pad(self.difference(x, c).abs_(), (0, 1)), x.shape[-1]
        value = gaps.sum(dim=-1) + gaps.amax(dim=-1)
        return value, value * ((d + 5) * ROUNDED) + (d + 2) * 2.0**-1020


class Share(Metric):
    """Minus the share of c_0^2 in |c|^2, 0 for the zero vector: of degree 0, a fraction, and blind to the row."""

    degree: ClassVar[int] = 0

    def key(self, x, c):
        return -Fraction(c[0] * c[0], sum(b * b for b in c) or 1) if c else 0

    def beyond(self, x, c):
        return math.nan

    def pair_values(self, x, c):
        c64 = c.double()
        c64 = c64 / c64.abs().amax(dim=-1, keepdim=True).clamp(min=5e-324)
        square = c64.square().sum(dim=-1)
        value = -torch.where(square == 0, 0.0, c64[..., 0].square() / square) + 0.0 * x.double().sum(dim=-1)
        return value, value * 0.0 + (c.shape[-1] + 9) * ROUNDED


def both(x: Sequence[float], c: Sequence[float]) -> tuple[int, Fraction]:
    """Return (class, value) of two rows, by fractions alone."""
    pairs = list(zip(x, c, strict=True))
    if any(math.isnan(a) or math.isnan(b) or (math.isinf(a) and a == b) for a, b in pairs):
        return 2, Fraction(0)
    if any(math.isinf(a) or math.isinf(b) for a, b in pairs):
        return 1, Fraction(0)
    gaps = [abs(Fraction(a) - Fraction(b)) for a, b in pairs]
    return 0, sum(gaps) + max(gaps, default=0)


def share(x: Sequence[float], c: Sequence[float]) -> tuple[int, Fraction]:
    if not all(math.isfinite(v) for v in (*x, *c)):
        return 2, Fraction(0)
    squares = [Fraction(v) ** 2 for v in c]
    return 0, -squares[0] / (sum(squares) or 1)


TRUTH = {"both": both, "share": share}
ADDED = list(TRUTH)


@pytest.fixture(autouse=True)
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, metric in {"both": Both, "share": Share}.items():
        monkeypatch.setitem(METRICS, name, metric)


def nearest(x: Tensor, ctrs: Tensor, k: int, metric: str, allowed: Tensor | None = None) -> Tensor:
    """Return the unique answer (k, n_smps), -1 where a row may not have so many."""
    centres, columns = ctrs.tolist(), []
    for i, row in enumerate(x.tolist()):
        shown = [j for j in range(len(centres)) if allowed is None or allowed[i, j]]
        order = sorted(shown, key=lambda j, row=row: (TRUTH[metric](row, centres[j]), j))[:k]
        columns.append(order + [-1] * (k - len(order)))
    return torch.tensor(columns, dtype=torch.int64).T


def some(name: str) -> Problem:
    x, ctrs, k, _ = PROBLEMS[name]()
    return Problem(x[:4], ctrs, k)


@pytest.mark.parametrize("metric", ADDED)
@pytest.mark.parametrize("name", KINDS)
def test_every_search_by_an_added_metric_is_exact(name: str, metric: str) -> None:
    x, ctrs, k, _ = some(name)
    expected = nearest(x, ctrs, k, metric)
    assert torch.equal(find(x, ctrs, k, metric=metric), expected)
    table = torch.rand(len(x), len(ctrs), generator=torch.Generator().manual_seed(0)) < 0.3
    found = find(x, ctrs, k, metric=metric, allowed=lambda rows, start, stop: table[rows, start:stop])
    assert torch.equal(found, nearest(x, ctrs, k, metric, table))
    assert torch.equal(reference.nearest(x[:2], ctrs, k, metric), expected[:, :2])


@pytest.mark.parametrize("metric", ADDED)
@pytest.mark.parametrize("name", KINDS)
def test_blocks_of_centres_are_merged_exactly(name: str, metric: str) -> None:
    x, ctrs, k, _ = some(name)
    running, edges = Running.empty(len(x), k, metric), [0, len(ctrs) // 5, len(ctrs) // 2, len(ctrs)]
    for start, stop in itertools.pairwise(edges):
        extend(running, x, ctrs[start:stop], start, Points(ctrs), max_memory=2**22)
    assert torch.equal(running.indices.T, nearest(x, ctrs, k, metric))


@pytest.mark.parametrize("metric", ADDED)
@pytest.mark.parametrize("name", KINDS)
def test_distances_are_the_true_ones_rounded_once(name: str, metric: str) -> None:
    x, ctrs, _, _ = some(name)
    indices = torch.arange(len(ctrs))[:40].expand(len(x), -1)
    got = distances(x, ctrs, indices, metric)
    limit = torch.finfo(got.dtype).max
    for i, row in enumerate(x.tolist()):
        for j, centre in enumerate(ctrs.tolist()[:40]):
            kind, value = TRUTH[metric](row, centre)
            if kind == 0 and abs(value) <= Fraction(limit):
                found, lower, upper = (Fraction(v) for v in neighbourhood(got[i, j]))
                assert 2 * value >= found + lower
                assert 2 * value <= found + upper
            else:
                assert math.isnan(got[i, j]) if kind == 2 else math.isinf(got[i, j])


def neighbourhood(value: Tensor) -> tuple[float, float, float]:
    """Return a number and those of its dtype beside it, the largest finite ones at the ends."""
    limit = torch.finfo(value.dtype).max
    ends = (torch.nextafter(value, torch.full_like(value, sign * torch.inf)) for sign in (-1, 1))
    return float(value), *(float(end.clamp(-limit, limit)) for end in ends)


@pytest.mark.parametrize("metric", ADDED)
def test_two_centres_are_compared_exactly(metric: str) -> None:
    for name in KINDS:
        x, ctrs, _, _ = some(name)
        g = torch.Generator().manual_seed(0)
        one, other = torch.randint(0, len(ctrs), (2, len(x)), generator=g)
        rows, centres = x.tolist(), ctrs.tolist()
        truths = [
            [TRUTH[metric](row, centres[j]) for j in pair]
            for row, pair in zip(rows, zip(one.tolist(), other.tolist(), strict=True), strict=True)
        ]
        expected = [(near > far) - (near < far) for near, far in truths]
        assert compare(x, Points(ctrs), one, other, metric).tolist() == expected


@pytest.mark.parametrize("metric", ADDED)
def test_screens_decline_it_and_say_so(metric: str) -> None:
    x, ctrs, k, _ = gaussian(n=70, n_ctrs=2100, d=12)
    with watch_knn() as reports:
        found = find(x, ctrs, k, metric=metric)
        little = find(x, ctrs, k, metric=metric, max_memory=2**20, m=64)
    assert torch.equal(found[:, :2], nearest(x[:2], ctrs, k, metric))
    assert torch.equal(little, found)
    assert metric in str(reports[0])
    assert reports[0].n_exhaustive == len(x)


def test_the_face_takes_it_at_once() -> None:
    x, ctrs, k, _ = gaussian()
    found = knn(x, ctrs, k, metric="both")
    assert torch.equal(found.indices.T, nearest(x, ctrs, k, "both"))
    gaps = (x[:, None].double() - ctrs[found.indices].double()).abs()
    assert torch.allclose(found.distances.double(), gaps.sum(dim=-1) + gaps.amax(dim=-1), rtol=1e-6)


def test_a_derivative_that_nobody_wrote_is_an_error_that_says_so() -> None:
    x = torch.rand(20, 3, requires_grad=True)
    with pytest.raises(NotImplementedError, match="distances by 'both' have no derivative"):
        knn(x, torch.rand(50, 3), 4, metric="both").distances.sum().backward()


def test_points_without_coordinates_are_alike() -> None:
    x, ctrs, table = torch.zeros(1, 0), torch.zeros(4, 0), torch.tensor([[False, True, False, True]])
    assert find(x, ctrs, 3, metric="both").T.tolist() == [[0, 1, 2]]
    assert find(x, ctrs, 3, metric="both", allowed=lambda rows, i, j: table[rows, i:j]).T.tolist() == [[1, 3, -1]]
    assert distances(x, ctrs, torch.tensor([[1, -1]]), "both").tolist() == [[0.0, math.inf]]


def test_an_error_left_out_makes_wrong_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(1)
    x = torch.rand(5, 3, generator=g, dtype=torch.float64)
    steps = torch.randint(-3, 4, (400, 3), generator=g).double() * 2.0**-53
    ctrs = 1.1 + 0.4 * torch.eye(3, dtype=torch.float64)[torch.randint(0, 3, (400,), generator=g)] + steps
    expected = nearest(x, ctrs, 100, "both")
    assert torch.equal(find(x, ctrs, 100, metric="both"), expected)
    honest = Both.pair_values
    monkeypatch.setattr(Both, "pair_values", lambda *a: (honest(*a)[0], torch.zeros_like(honest(*a)[1])))
    assert not torch.equal(find(x, ctrs, 100, metric="both"), expected)
