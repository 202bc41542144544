"""Plain tensors, from the call to kernels: every way decides right, or leaves a search to the general way."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.brief import book, door, few, lanes
from janelia_core.ml._knn.brief.question import Question, Sizes
from janelia_core.ml._knn.screens.codebook import kernels
from janelia_core.ml._knn.small import lanes as small_lanes
from janelia_core.ml._neighbors import call
from janelia_core.ml._runtime.loading import VARIABLE, are_ready, waiting
from janelia_core.ml.extra_torch_functions import knn_mc
from janelia_core.ml.neighbors import knn, watch_knn
from oracle import nearest
from problems import PROBLEMS, gaussian

MEMORY = 1 << 28


def sizes(n: int, n_ctrs: int, d: int, k: int, **others: object) -> Sizes:
    return Sizes(n, n_ctrs, d, torch.float32, k, None, "euclidean", MEMORY, False)._replace(**others)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bool]]]:
    """Which ways were asked, and whether they answered; a book seems cheap, so that small problems have one."""
    asked: list[tuple[str, bool]] = []
    monkeypatch.setattr(book, "_FIXED", -1e5)
    door._ways_of.cache_clear()
    assert small_lanes.__name__  # imported: whoever asks briefly does not
    for name, way in (("book", book), ("lanes", lanes), ("few", few)):

        def answered(question: Question, name: str = name, answered=way.answered):
            found = answered(question)
            asked.append((name, found is not None))
            return found

        monkeypatch.setattr(way, "answered", answered)
    yield asked
    door._ways_of.cache_clear()


def generally(monkeypatch: pytest.MonkeyPatch, *args: object, **kwargs: object):
    """Return what knn answers without brief ways."""
    with monkeypatch.context() as patch:
        patch.setattr(call, "nearest_briefly", lambda *_, **__: None)
        return knn(*args, **kwargs)


@pytest.mark.parametrize(
    ("asked", "way"),
    [
        (sizes(64, 64, 8, 3), "lanes"),
        (sizes(5000, 64, 64, 1), "lanes"),
        (sizes(8000, 100, 32, 2), "book"),
        (sizes(20_000, 32, 8, 1), "book"),
        (sizes(10_000, 256, 2, 1), "book"),
        (sizes(300, 200, 32, 1), "lanes"),
        (sizes(1000, 1000, 16, 5), "lanes"),
        (sizes(2, 10_000, 128, 10), "few"),
        (sizes(200, 500, 16, 5, masked=True), "lanes"),
        (sizes(2, 3000, 8, 10, masked=True), "lanes"),
        (sizes(5000, 64, 64, 1, but_self=True), "lanes"),
        (sizes(100_000, 32, 8, 1, max_memory=1 << 20), "lanes"),
        (sizes(10_000, 8192, 16, 10), None),
        (sizes(5000, 64, 64, 1, metric="manhattan"), None),
        (sizes(0, 64, 8, 1), None),
        (sizes(64, 3, 8, 4), None),
    ],
)
def test_sizes_tell_which_way_is_asked_first(asked: Sizes, way: str | None) -> None:
    ways = [served.__name__.rpartition(".")[2] for served in door._ways_of(asked)]
    assert ways[:1] == ([] if way is None else [way])


@pytest.mark.parametrize("metric", ["euclidean", "dot", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "n_ctrs", "d", "k"), [(3000, 50, 16, 1), (5000, 200, 3, 4), (4100, 130, 20, 1)])
def test_many_rows_among_few_centres_are_answered_as_the_general_way_does(
    monkeypatch, taken, n, n_ctrs, d, k, dtype, metric
) -> None:
    x, ctrs, _, _ = gaussian(dtype, n=n, n_ctrs=n_ctrs, d=d)
    ctrs[0] = ctrs[1] + 1e-3 * ctrs[2]
    x[:9] = (ctrs[0] + ctrs[1]) / 2 + 1e-6 * ctrs[2]  # rows in doubt, for lanes
    with waiting():
        found = knn(x, ctrs, k, metric=metric)
    expected = generally(monkeypatch, x, ctrs, k, metric=metric)
    assert taken[-1] == ("book", True)
    assert metric != "euclidean" or taken[0] == ("lanes", True)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)
    if metric == "euclidean":
        assert torch.equal(knn_mc(x, ctrs, k, n_ctrs), expected.indices.T)


def test_rows_that_neither_scores_nor_lanes_prove_are_left_to_the_general_way(taken) -> None:
    x, ctrs, _, _ = gaussian(n=3000, n_ctrs=50, d=16)
    ctrs[7] = ctrs[3]
    x[11] = ctrs[3]
    with waiting():
        got = knn_mc(x, ctrs, 2, 50)
    assert taken == [("lanes", False), ("book", False)]
    assert torch.equal(got, nearest(x, ctrs, 2))
    ctrs[9, 2] = torch.nan
    knn_mc(x, ctrs, 1, 50)
    assert taken[-1] == ("book", False)


def test_a_first_look_at_rows_that_an_outlier_leaves_in_doubt_gives_way(monkeypatch, taken) -> None:
    x, ctrs, _, _ = gaussian(n=6000, n_ctrs=50, d=16)
    ctrs[49] *= 1e6
    swept, answer = [], kernels.answer
    monkeypatch.setattr(kernels, "answer", lambda *args: swept.append(args[2].stop) or answer(*args))
    with waiting():
        got = knn_mc(x, ctrs, 1, 50)
    assert taken == [("book", False)]
    assert swept[0] == book._PROBE
    assert torch.equal(got, nearest(x, ctrs, 1))


def test_scores_that_claim_to_prove_too_much_are_caught(monkeypatch, taken) -> None:
    """Bounds of the book are loosened: then near-ties are answered by float32 scores."""
    source = torch.Generator().manual_seed(0)
    ctrs = torch.randn(40, 24, generator=source)
    ctrs[36:] = ctrs[:4] + 2.0**-19 * torch.randn(4, 24, generator=source)
    x = ctrs[torch.randint(0, 40, (3000,), generator=source)] + 0.5 * torch.randn(3000, 24, generator=source)
    asked = Question(sizes(3000, 40, 24, 1), x.numpy(), ctrs.numpy(), door.NO_MASK, rounded=False)
    expected = nearest(x, ctrs, 1)
    with waiting():
        assert torch.equal(knn_mc(x, ctrs, 1, 40), expected)
        answer = kernels.answer
        surer = lambda made, *others: answer(made._replace(sure=made.sure * 0.0), *others)  # noqa: E731
        monkeypatch.setattr(kernels, "answer", surer)
        claimed = book.answered(asked)
    assert claimed is not None
    assert not torch.equal(claimed.indices, expected)


@pytest.mark.parametrize("share", [0.02, 0.97])
@pytest.mark.parametrize("name", PROBLEMS)
def test_masked_rows_are_answered_as_the_definition_says(monkeypatch, name: str, share: float) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    x, source = x[:20], torch.Generator().manual_seed(1)
    mask = torch.rand(len(x), len(ctrs), generator=source) < share
    found, expected = knn(x, ctrs, k, mask=mask), generally(monkeypatch, x, ctrs, k, mask=mask)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances.nan_to_num(nan=-1.0), expected.distances.nan_to_num(nan=-1.0))
    for i in range(len(x)):
        allowed = mask[i].nonzero()[:, 0]
        own = allowed[nearest(x[i : i + 1], ctrs[allowed], min(k, len(allowed)))[:, 0]] if len(allowed) else allowed
        assert torch.equal(found.indices[i], torch.nn.functional.pad(own, (0, k - len(own)), value=-1))


@pytest.mark.parametrize("metric", ["euclidean", "dot", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("among", [True, False])
def test_masks_of_all_shapes_go_the_brief_way(monkeypatch, taken, metric, dtype, among) -> None:
    x, ctrs, _, _ = gaussian(dtype, n=50, n_ctrs=50, d=5)
    source, args = torch.Generator().manual_seed(1), (x, None if among else ctrs, 4)
    for mask in (
        torch.rand(50, 50, generator=source) < 0.5,
        (torch.rand(50, 50, generator=source) < 0.5).T,
        torch.rand(1, 50, generator=source) < 0.1,
        (torch.randint(0, 3, (50, 50), generator=source, dtype=torch.uint8) * 2).view(torch.bool),
    ):
        found = knn(*args, mask=mask, metric=metric)
        assert taken.pop() == ("lanes", True)
        expected = generally(monkeypatch, *args, mask=mask, metric=metric)
        assert torch.equal(found.indices, expected.indices)
        assert torch.equal(found.distances, expected.distances)


def test_a_mask_that_is_a_function_or_watched_goes_the_general_way(taken) -> None:
    x, ctrs, _, _ = gaussian(n=50, n_ctrs=60, d=5)
    mask = torch.rand(50, 60) < 0.5
    knn(x, ctrs, 3, mask=lambda rows, start, stop: mask[rows, start:stop])
    with watch_knn() as reports:
        knn(x, ctrs, 3, mask=mask)
    knn(x, ctrs, 3, mask=mask[0])
    assert len(reports) == 1
    assert taken == []


@pytest.mark.parametrize("n", [64, 3000])
def test_negative_views_strides_and_inference_are_read_as_they_are(n: int) -> None:
    x, ctrs, _, _ = gaussian(n=n, n_ctrs=40, d=6)
    expected = knn(x, ctrs, 2)
    negative = torch._neg_view(-x), torch._neg_view(-ctrs)
    assert negative[0].is_neg()
    strided = torch.cat([x, x], dim=1)[:, :6], ctrs.T.contiguous().T
    for rows, centres in (negative, strided, (x, negative[1]), (strided[0].requires_grad_(), ctrs)):
        found = knn(rows, centres, 2)
        assert torch.equal(found.indices, expected.indices)
        assert torch.equal(found.distances, expected.distances)
        assert torch.equal(knn_mc(rows, centres, 2, 40), expected.indices.T)
    with torch.inference_mode():
        found = knn(x, ctrs, 2)
    found.indices.add_(0), found.distances.add_(0)  # not of inference mode: others may write to them


def test_copies_of_strided_rows_count_as_memory(taken) -> None:
    x, ctrs, _, _ = gaussian(n=30_000, n_ctrs=16, d=24)
    with waiting():
        knn_mc(x, ctrs, 1, 16, max_memory=1 << 23)
        assert taken[-1] == ("book", True)
        taken.clear()
        knn_mc(x.T.contiguous().T, ctrs, 1, 16, max_memory=1 << 23)
    assert taken == []


def test_a_way_that_stands_in_for_a_better_one_lets_its_kernels_load_when_it_is_done(monkeypatch, taken) -> None:
    loads = threading.Event()
    monkeypatch.setattr(book, "is_ready", lambda _: are_ready(loads, loads.set, delay=600.0))
    monkeypatch.setenv(VARIABLE, "thread")
    monkeypatch.setattr(lanes, "is_ready", lambda _: True)
    knn_mc(torch.randn(8000, 32), torch.randn(100, 32), 2, 100)
    assert taken == [("lanes", True)]
    assert loads.wait(60)


def test_rows_are_cut_into_pieces_without_gaps() -> None:
    from janelia_core.ml._knn.brief.pieces import in_pieces

    seen: list[Tensor] = in_pieces(lambda part: torch.arange(1000)[part], 70, 1000, 16, 2)
    assert torch.equal(torch.cat(seen), torch.arange(70, 1000))
    assert 2 < len(seen) <= 4
    assert all(len(part) % 16 == 0 for part in seen[:-1])


@pytest.mark.parametrize("threads", [1, 2])
def test_many_rows_are_answered_by_column_without_a_copy(monkeypatch, taken, threads: int) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(lanes, "_PER_THREAD", 1000)
    x, ctrs, _, _ = gaussian(n=1000, n_ctrs=37, d=2)
    asked = Question(sizes(1000, 37, 2, 6), x.numpy(), ctrs.numpy(), door.NO_MASK, rounded=False)
    made = lanes.answered(asked)
    assert made is not None
    assert made.indices.is_contiguous()
    assert torch.equal(made.indices, nearest(x, ctrs, 6))
