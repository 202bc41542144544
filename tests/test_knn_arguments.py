"""Arguments as people bring them: fewer centres than k, other libraries' spellings, options that would do nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from janelia_core.ml import CenterIndex, NearestCenters, PiecewiseLinear
from janelia_core.ml._knn.metrics.registry import METRICS
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
from janelia_core.ml.neighbors import Neighbors, knn, knn_graph, radius_graph, watch_knn

# torch warns of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
]

INF = torch.inf
X = torch.arange(5.0)[:, None]
NONE = torch.zeros(0, 1)


def ids(found: Neighbors) -> list[list[int]]:
    """Return the indices, having checked that places without a neighbour, and no others, are infinitely far."""
    assert torch.equal(found.indices < 0, found.distances == INF)
    return found.indices.tolist()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_ctrs", [0, 1, 3])
def test_fewer_centres_than_k_are_filled_up_in_every_kind_of_call(n_ctrs, metric):
    x, ctrs, some = torch.randn(4, 2), torch.randn(n_ctrs, 2), torch.zeros(4, dtype=torch.int64)
    flat = ids(knn(x, ctrs, 5, metric=metric))
    assert all(sorted(row[:n_ctrs]) == list(range(n_ctrs)) and row[n_ctrs:] == [-1] * (5 - n_ctrs) for row in flat)
    for found in (
        knn(x[None], ctrs[None], 5, metric=metric),
        knn(x[None], ctrs, 5, metric=metric),
        knn(x[None], ctrs[None], 5, metric=metric, ctrs_lengths=torch.tensor([n_ctrs])),
    ):
        assert ids(found) == [flat]
    assert ids(knn(x, ctrs, 5, metric=metric, x_batch=some, ctrs_batch=some[:n_ctrs])) == flat
    assert ids(knn(x, ctrs, 5, metric=metric, mask=torch.ones(n_ctrs, dtype=torch.bool))) == flat
    assert ids(knn(x, ctrs, 5, metric=metric, mask=torch.ones(4, n_ctrs, dtype=torch.bool))) == flat
    assert ids(knn(x, ctrs, 5, metric=metric, mask=lambda r, a, b: torch.ones(len(r), b - a, dtype=torch.bool))) == flat
    if n_ctrs:
        assert ids(knn(x, ctrs, 5, metric=metric, sample=n_ctrs)) == flat


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_a_small_cloud_among_itself_has_the_neighbours_that_exist(n):
    x, batch = X[:n], torch.zeros(n, dtype=torch.int64)
    flat = ids(knn(x, k=4))
    assert all(sorted(row) == [-1] * (5 - n) + [j for j in range(n) if j != i] for i, row in enumerate(flat))
    assert ids(knn(x[None], k=4)) == [flat]
    assert ids(knn(x, k=4, x_batch=batch)) == flat
    assert all(len(set(row) - {-1}) == n for row in ids(knn(x, k=5, include_self=True)))
    edges = [[j, i] for i, row in enumerate(flat) for j in row if j >= 0]
    assert knn_graph(x, 4).T.tolist() == knn_graph(x, 4, x_batch=batch).T.tolist() == edges
    matrix = knn_graph(x, 4, form="torch", mode="distance")
    assert matrix.shape == (n, n)
    assert matrix.values().numel() == n * max(0, n - 1)


def test_a_draw_smaller_than_k_is_filled_up_and_leaves_the_row_itself_out():
    assert (knn(X, X, 5, sample=2).indices >= 0).sum(dim=1).tolist() == [2] * 5
    found = knn(X, k=4, sample=2)
    assert (found.indices >= 0).sum() == 2 * 5 - 2  # two of the rows were drawn
    assert not (found.indices == torch.arange(5)[:, None]).any()
    allowed = torch.tensor([True, False, False, False, True])
    assert ids(knn(X, k=3, mask=allowed)) == [[4, -1, -1], [0, 4, -1], [0, 4, -1], [4, 0, -1], [0, -1, -1]]


def test_missing_neighbours_of_a_flat_call_pull_at_nothing():
    x = X.clone().requires_grad_()
    knn(x, X[:2] + 9, 4).distances[:, :2].sum().backward()
    assert x.grad.tolist() == [[-2.0]] * 5
    y = NONE.clone().requires_grad_()
    knn(X.clone().requires_grad_(), y, 2).distances.sum().backward()
    assert y.grad.shape == (0, 1)


def test_the_documented_functions_and_the_modules_raise_for_k_beyond_the_centres():
    for call in (
        lambda: knn_mc(X, X, 6, 9),
        lambda: knn_do(X, X, 3, 9, 2),
        lambda: NearestCenters(X, 6),
        lambda: PiecewiseLinear(X, 1, 6),
    ):
        with pytest.raises(ValueError, match=r"k must be at most n_ctrs(_used)? = [25], got"):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: knn_mc(X, NONE, 1, 9),
        lambda: knn_do(X, NONE, 1, 9, 1),
        lambda: NearestCenters(NONE, 1),
        lambda: PiecewiseLinear(NONE, 1, 1),
        lambda: knn(X, NONE, sample=1),
    ],
)
def test_no_message_asks_for_at_most_nothing(call):
    with pytest.raises(ValueError, match="= 1 asks for what is not there: n_ctrs = 0"):
        call()


class Frame:
    """What pandas has of interest."""

    def to_numpy(self):
        return np.zeros((2, 1))


BATCH = torch.zeros(5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: knn(X, 5), TypeError, r"got int: 5; k comes third: write knn\(x, k=5\)"),
        (lambda: knn(X, np.int64(5)), TypeError, r"got int64: 5; k comes third: write knn\(x, k=5\)"),
        (lambda: knn(X, X, metric=None), ValueError, "got None$"),
        (lambda: knn(X.numpy(), X), TypeError, r"x must be a torch.Tensor.*got ndarray; give torch.from_numpy\(x\)"),
        (lambda: knn(X, Frame()), TypeError, r"got Frame; give torch.from_numpy\(ctrs.to_numpy\(\)\)"),
        (lambda: knn([[1.0]]), TypeError, r"got list; give torch.as_tensor\(x\)"),
        (lambda: knn_mc(X.numpy(), X, 1, 1), TypeError, r"give torch.from_numpy\(x\)"),
        (lambda: knn_graph(X, 2, BATCH), ValueError, r"knn_graph\(x, k, x_batch=batch\)"),
        (lambda: knn(X, BATCH), ValueError, r"knn\(x, k=k, x_batch=batch\)"),
        (lambda: knn_graph(X, X), TypeError, r"k must be an int, got a tensor of shape \(5, 1\).*x, k, ctrs"),
        (lambda: knn(X, X, metric="l2"), ValueError, "got 'l2'; write 'euclidean', or 'sqeuclidean' for its square"),
        (lambda: knn(X, X, metric="L2"), ValueError, "got 'L2'; write 'euclidean'"),
        (lambda: knn(X, X, metric="ip"), ValueError, "got 'ip'; write 'dot', the negative inner product"),
        (lambda: knn(X, X, metric="inner product"), ValueError, "write 'dot'"),
        (lambda: knn(X, X, metric="Inner-Product"), ValueError, "write 'dot'"),
        (lambda: knn(X, X, metric="angular"), ValueError, "write 'cosine'"),
        (lambda: knn(X, X, metric="euclid"), ValueError, "write 'euclidean'"),
        (lambda: knn(X, X, metric="Euclidean"), ValueError, "got 'Euclidean'; write 'euclidean'"),
        (lambda: knn(X, X, metric=" COSINE"), ValueError, "write 'cosine'"),
        (lambda: knn(X, X, metric="euclidian"), ValueError, "write 'euclidean'"),
        (lambda: knn(X, X, metric="l1"), ValueError, "got 'l1'; write 'manhattan'"),
        (lambda: knn(X, X, metric="cityblock"), ValueError, "write 'manhattan'"),
        (lambda: CenterIndex(X, metric="METRIC_Linf"), ValueError, "write 'chebyshev'"),
        (lambda: knn(X, X, metric="hamming"), ValueError, "metric must be one of .*, got 'hamming'$"),
        (lambda: NearestCenters(X, 1, metric="ip"), ValueError, "write 'dot'"),
        (lambda: knn(X, k=2, batch=BATCH), TypeError, r"knn\(\) has no argument 'batch'; write x_batch=batch"),
        (lambda: knn_graph(X, 2, batch=BATCH), TypeError, r"knn_graph\(\) has no argument 'batch'; write x_batch="),
        (lambda: knn_graph(X, 2, loop=True), TypeError, "write include_self="),
        (lambda: knn(X, X, p=1), TypeError, "has no argument 'p'; write metric=: 'manhattan' for 1"),
        (lambda: knn(X, X, n_neighbors=2), TypeError, "write k="),
        (lambda: knn(X, X, return_distance=True), TypeError, "knn returns both"),
        (lambda: knn(X, X, return_nn=True), TypeError, r"gather\(values\)"),
        (lambda: knn(X, X, nonsense=1), TypeError, "unexpected keyword argument 'nonsense'"),
        (lambda: knn_graph(X, 2, nonsense=1), TypeError, "unexpected keyword argument 'nonsense'"),
        (lambda: knn(X, X, generator=torch.Generator()), ValueError, "generator draws nothing without sample="),
        (lambda: knn_graph(X, 1, generator=torch.Generator()), ValueError, "draws nothing without sample="),
        (lambda: knn(X, X, progress="yes"), TypeError, "progress must be True or False, got str: 'yes'"),
        (lambda: knn(X, X, progress=1), TypeError, "progress must be True or False, got int"),
        (lambda: knn(X, include_self="no"), TypeError, "include_self must be True or False, got str: 'no'"),
        (lambda: knn(X, X, include_self=None), TypeError, "include_self must be True or False, got NoneType"),
        (lambda: knn(X, X, sample=True), TypeError, "sample must be an int, got bool"),
    ],
)
def test_a_wrong_spelling_or_an_option_without_effect_is_refused_with_the_right_one(call, error, says):
    before = torch.get_rng_state()
    with pytest.raises(error, match=says):
        call()
    assert torch.equal(torch.get_rng_state(), before)


def test_gather_reads_no_row_for_a_missing_neighbour():
    found = knn(X, X[:2], 3)
    values = torch.tensor([[1.0, 2.0], [torch.nan, 5.0]])
    got = found.gather(values)
    assert got.shape == (5, 3, 2)
    assert (got[:, 2] == 0).all()
    assert torch.equal(got[:, :2].isnan().any(-1), found.indices[:, :2] == 1)
    assert (found.gather(values, fill=-INF)[:, 2] == -INF).all()
    assert found.gather(torch.arange(2), fill=-1)[0].tolist() == [0, 1, -1]
    assert found.gather(torch.tensor([True, False]))[0].tolist() == [True, False, False]
    empty = knn(X, NONE, 2).gather(torch.zeros(0, 3, 4), fill=7.0)
    assert empty.shape == (5, 2, 3, 4)
    assert (empty == 7).all()


def test_gather_follows_batches_shared_centres_and_ragged_calls():
    x, ctrs, values = torch.randn(3, 2, 6, 2), torch.randn(3, 2, 4, 2), torch.randn(3, 2, 4, 5, 7)
    got = knn(x, ctrs, 5).gather(values)
    assert got.shape == (3, 2, 6, 5, 5, 7)
    one = knn(x[2, 1], ctrs[2, 1], 5)
    assert torch.equal(got[2, 1], one.gather(values[2, 1]))
    assert torch.equal(one.gather(values[2, 1])[:, :4], values[2, 1][one.indices[:, :4]])
    found = knn(x, ctrs[:1], 5)
    assert torch.equal(found.gather(values[:1]), found.gather(values[:1].expand(3, -1, -1, -1, -1)))
    found = knn(x, ctrs[0], 5)
    assert torch.equal(found.gather(values[0], dim=1), found.gather(values[:1]))
    shared = knn(x, ctrs[0, 0], 5)
    assert torch.equal(shared.gather(values[0, 0], dim=0), shared.gather(values[:1, :1]))
    nearest = NearestCenters(ctrs[0, 0], 2)
    assert nearest(x).gather(values[0, 0], dim=0).shape == (3, 2, 6, 2, 5, 7)
    assert nearest(x[0, 0, 0]).gather(values[0, 0]).shape == (2, 5, 7)
    batch = torch.tensor([0, 0, 0, 4, 4])
    ragged = knn(X, k=2, x_batch=batch)
    assert ragged.gather(X, fill=-9.0).squeeze(-1).tolist() == [[1, 2], [0, 2], [1, 0], [4, -9], [3, -9]]


def test_gather_is_differentiable_and_works_under_vmap_compile_and_export():
    found = knn(X, X[:2], 3)
    values = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(found.gather, values, check_forward_ad=True, check_batched_grad=True)

    def features(x, ctrs, values):
        return knn(x, ctrs, 3).gather(values)

    x, ctrs, values = torch.randn(4, 5, 2), torch.randn(4, 2, 2), torch.randn(4, 2, 3)
    expected = torch.stack([features(*problem) for problem in zip(x, ctrs, values, strict=True)])
    assert torch.equal(torch.func.vmap(features)(x, ctrs, values), expected)
    assert torch.equal(torch.compile(features, fullgraph=True, backend="eager")(x, ctrs, values), expected)

    class Module(torch.nn.Module):
        def forward(self, x, ctrs, values):
            return features(x, ctrs, values)

    exported = torch.export.export(Module(), (x, ctrs, values)).module()
    assert torch.equal(exported(x, ctrs, values), expected)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda f: f.gather([1.0]), TypeError, "values must be a torch.Tensor.*got list"),
        (lambda f: f.gather(torch.zeros(2, 9, 3)), ValueError, r"leading dimensions \(3,\) or 1.*\(2, 9, 3\).*dim=0"),
        (lambda f: f.gather(torch.zeros(3)), ValueError, "values must have shape"),
        (lambda f: f.gather(torch.zeros(3, 9), dim=2), ValueError, "dim must be between 0 and 1.*got 2"),
        (lambda f: f.gather(torch.zeros(3, 9), dim=-1), ValueError, "dim must be between 0 and 1.*got -1"),
        (lambda f: f.gather(torch.zeros(3, 9), dim=0.0), TypeError, "dim must be an int or None, got float"),
        (lambda f: f.gather(torch.zeros(3, 4)), IndexError, "out of bounds"),
        (lambda f: f.gather(torch.zeros(3, 9, device="meta")), ValueError, "on the device of indices, cpu, got meta"),
        (lambda f: f.gather(torch.zeros(3, 9).long(), fill=0.5), ValueError, "fill = 0.5 is no number of.*int64"),
        (lambda f: f.gather(torch.zeros(3, 9).byte(), fill=-1), ValueError, "fill = -1 is no number of.*uint8"),
        (lambda f: f.gather(torch.zeros(3, 9).int(), fill=torch.nan), ValueError, "fill = nan is no number"),
        (lambda f: f.gather(torch.zeros(3, 9).bool(), fill=2), ValueError, "fill = 2 is no number of.*bool"),
    ],
)
def test_gather_names_what_does_not_fit(call, error, says):
    found = knn(torch.randn(3, 4, 2), torch.randn(3, 9, 2), 8)
    with pytest.raises(error, match=says):
        call(found)


def test_neighbours_among_x_are_the_same_where_the_memory_holds_several_trees_one_by_one():
    x = torch.rand(17_000, 3, generator=torch.Generator().manual_seed(0))
    x[::30], x[1::700] = x[0], x[1]  # rows that are not among the first k + 1 of their own copies
    with watch_knn() as reports:
        little = knn(x, k=3, max_memory=1 << 20).indices
    assert reports[0].plan.own.trees.parts > 1
    assert torch.equal(little, knn(x, k=3).indices)


def test_a_name_that_is_ours_too_is_taken():
    x, batch = torch.tensor([[0.0], [1.0], [1.5]]), torch.tensor([0, 0, 1])
    edges = radius_graph(x, 1.0, batch=batch, loop=True, flow="target_to_source")
    assert edges.tolist() == [[0, 0, 1, 1, 2], [0, 1, 1, 0, 2]]
