"""Many clouds are searched at once, and answered as if each were searched alone."""

from __future__ import annotations

import pytest
import torch

from janelia_core.ml import knn
from janelia_core.ml._knn.clouds import at_once
from janelia_core.ml._knn.clouds.at_once import Clouds, search_at_once
from janelia_core.ml._knn.find import find
from janelia_core.ml.neighbors import watch_knn
from problems import KINDS, PROBLEMS


@pytest.fixture(autouse=True)
def kernels_are_wanted(monkeypatch):
    monkeypatch.setattr(at_once, "_PATIENCE", -1)


def one_by_one(x, ctrs, groups, k, but_self=False):
    """Return what each group alone is answered with."""
    out = torch.full((len(x), k), -1)
    for first, last, first_ctr, last_ctr, column in groups.tolist():
        wanted = min(k + but_self, last_ctr - first_ctr)
        if wanted and last > first:
            rows = x[first:last]
            ctrs_of_group = rows if but_self else ctrs[first_ctr:last_ctr]
            find(rows, ctrs_of_group, wanted, out=out[first:last].T, but_self=but_self)
            out[first:last] += torch.where(out[first:last] < 0, 0, column)
    return out


def at_one_look(x, ctrs, groups, k, but_self=False, budget=1 << 28):
    """Return the same by one look at each, and which groups are answered so."""
    out = torch.full((len(x), k), -1)
    left, answered = search_at_once(Clouds(x, ctrs, k, "euclidean", but_self, budget, out), groups)
    todo = set(map(tuple, left.tolist()))
    done = torch.tensor([tuple(group) not in todo for group in groups.tolist()])
    assert answered == int((groups[done, 1] - groups[done, 0]).sum())
    return out, done


def cut(n, lengths):
    """Return where parts of so many rows begin and end."""
    ends = torch.tensor([0, *lengths]).cumsum(0).clamp(max=n)
    return ends[:-1], ends[1:]


def of_sizes(x, ctrs, lengths, ctrs_lengths):
    """Return groups of so many rows and centres, each with column numbers from its first centre on."""
    rows, columns = cut(len(x), lengths), cut(len(ctrs), ctrs_lengths)
    return torch.stack([*rows, *columns, columns[0]], dim=1)


@pytest.mark.parametrize("narrow", [1, 1 << 30], ids=["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_hard_problems_are_answered_right_or_left(kind, narrow, monkeypatch):
    monkeypatch.setattr(at_once, "_NARROW", narrow)
    monkeypatch.setattr(at_once, "_MANY", narrow)
    x, ctrs, k, _ = PROBLEMS[kind]()
    n, m = len(x), len(ctrs)
    groups = of_sizes(x, ctrs, [n // 3, n - n // 3], [m - m // 4, m // 4])
    out, done = at_one_look(x, ctrs, groups, k)
    expected = one_by_one(x, ctrs, groups, k)
    for (first, last, *_), answered in zip(groups.tolist(), done.tolist(), strict=True):
        assert not answered or torch.equal(out[first:last], expected[first:last])
    if (
        kind.startswith(("gaussian", "line", "lattice", "duplicates", "one-ulp", "all-equal"))
        and x.dtype != torch.int64
    ):
        assert done.all()


@pytest.mark.parametrize("d", [1, 3, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.float16])
def test_ragged_empty_and_tiny_clouds_with_ties(d, dtype):
    g = torch.Generator().manual_seed(d)
    lengths, ctrs_lengths = (torch.randint(0, 30, (60,), generator=g) for _ in range(2))
    lengths[5], ctrs_lengths[7], ctrs_lengths[8] = 0, 0, 1
    x, ctrs = (torch.randint(0, 4, (int(sizes.sum()), d), generator=g).to(dtype) for sizes in (lengths, ctrs_lengths))
    groups = of_sizes(x, ctrs, lengths, ctrs_lengths)
    out, done = at_one_look(x, ctrs, groups, 6)
    assert done.all()
    assert torch.equal(out, one_by_one(x, ctrs, groups, 6))
    groups = of_sizes(x, x, lengths, lengths)
    out, done = at_one_look(x, x, groups, 6, but_self=True)
    assert done.all()
    assert torch.equal(out, one_by_one(x, x, groups, 6, but_self=True))


@pytest.mark.parametrize("narrow", [1, 1 << 30], ids=["float32", "float64"])
@pytest.mark.parametrize("k", [1, 12])
def test_many_centres_are_listed_up_to_a_limit_and_no_fewer(k, narrow, monkeypatch):
    monkeypatch.setattr(at_once, "_NARROW", narrow)
    monkeypatch.setattr(at_once, "_MANY", narrow)
    g = torch.Generator().manual_seed(k)
    x = torch.randn(4, 900, 5, generator=g)
    x[1] = (2 * x[1]).round()  # ties
    x[2] = x[2].sort(dim=0).values.flip(0)  # the nearest come in turn
    x[3, 300:] = x[3, 300]  # copies
    x[0, 33], x[0, 700, 2] = torch.nan, torch.inf
    flat = x.flatten(0, 1)
    groups = of_sizes(flat, flat, [900] * 4, [900] * 4)
    parts = groups + torch.tensor([[100, 0, 0, 0, 0]])  # without those that are not finite
    for asked, but_self in ((parts, False), (groups[1:], True)):
        out, done = at_one_look(flat, flat, asked, k, but_self)
        assert done[-3:-1].all()
        expected = one_by_one(flat, flat, asked, k, but_self)
        for (first, last, *_), answered in zip(asked.tolist(), done.tolist(), strict=True):
            assert not answered or torch.equal(out[first:last], expected[first:last])


def test_a_cloud_that_is_not_finite_or_overflows_takes_the_general_way_alone():
    x = torch.randn(40, 5, 3)
    x[7, 2, 1], x[11, 0, 0], x[13] = torch.nan, torch.inf, 1e-30 * x[13]
    y = x.double()
    y[17] *= 1e160
    for points in (x, y):
        groups = of_sizes(flat := points.flatten(0, 1), flat, [5] * 40, [5] * 40)
        out, done = at_one_look(flat, flat, groups, 3)
        assert (~done).nonzero()[:, 0].tolist() == [7, 11] + [17] * (points is y)
        expected = one_by_one(flat, flat, groups, 3)
        assert torch.equal(out[done.repeat_interleave(5)], expected[done.repeat_interleave(5)])
        assert torch.equal(
            knn(points, points, 3).indices, expected.view(40, 5, 3) - 5 * torch.arange(40)[:, None, None]
        )


def in_descending_order():
    """Return centres that differ by what a key of float64 distances does not keep, the nearest last."""
    return (
        torch.zeros(3, 1, dtype=torch.float64),
        1 + (64 - torch.arange(64.0, dtype=torch.float64))[:, None] * 2**-52,
        5,
    )


@pytest.mark.parametrize(("narrow", "loose"), [(1, -1e-9), (1 << 30, -(2**-44))], ids=["float32", "float64"])
def test_a_smaller_bound_would_answer_wrong(narrow, loose, monkeypatch):
    monkeypatch.setattr(at_once, "_NARROW", narrow)
    monkeypatch.setattr(at_once, "_MANY", narrow)
    x, ctrs, k = PROBLEMS["nearly-equidistant"]()[:3] if narrow == 1 else in_descending_order()
    groups = torch.tensor([[0, len(x), 0, len(ctrs), 0]])
    expected = one_by_one(x, ctrs, groups, k)
    out, done = at_one_look(x, ctrs, groups, k)
    assert not done.all() or torch.equal(out, expected)
    monkeypatch.setattr(at_once, "bound_of", lambda *_: (loose, 0.0))
    out, done = at_one_look(x, ctrs, groups, k)
    assert done.all()
    assert not torch.equal(out, expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n", [20, 2100])  # by one look, and by a search of its own for each worker
def test_any_number_of_threads_gives_the_same_to_every_cloud(n, threads):
    x = torch.randn(7 if n > 1000 else 300, n, 3, generator=torch.Generator().manual_seed(3))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with watch_knn() as reports:
            found = knn(x, k=4)
    finally:
        torch.set_num_threads(before)
    assert len(reports) == (7 if n > 1000 else 1)
    assert sum(report.n_screened + report.n_exhaustive for report in reports) >= x.shape[0] * n
    for b in (0, len(x) - 1):
        alone = knn(x[b], k=4)
        assert torch.equal(found.indices[b], alone.indices)
        assert torch.equal(found.distances[b], alone.distances)


def test_an_error_in_one_of_many_groups_is_raised(monkeypatch):
    def fail(rows, first, last):
        raise ArithmeticError("of the caller")

    x, batch = torch.randn(3600, 8), torch.arange(3600) // 600
    with pytest.raises(ArithmeticError, match="of the caller"):
        knn(x, x, 3, mask=fail, x_batch=batch, ctrs_batch=batch)


def test_copies_of_clouds_hold_no_padding_and_no_larger_cloud_between(monkeypatch):
    copied, part = [], Clouds.part

    def watched(self, groups):
        found = part(self, groups)
        copied.append(8 * (found.x.numel() + found.ctrs.numel()))
        return found

    monkeypatch.setattr(Clouds, "part", watched)
    monkeypatch.setattr(at_once, "_want_kernels", lambda total, n_groups: total > 0)
    padded = torch.randn(20, 5000, 8).half()
    knn(padded, k=2, lengths=torch.full((20,), 5), max_memory=1 << 20)
    flat = torch.randn(80_016, 8).half()
    x_batch = torch.cat([torch.zeros(8), torch.ones(80_000), torch.full((8,), 2)]).long()
    knn(flat, flat[:24], k=2, x_batch=x_batch, ctrs_batch=torch.arange(24) // 8, max_memory=1 << 20)
    assert len(copied) >= 4
    assert max(copied) <= 1 << 18
