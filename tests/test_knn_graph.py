"""knn_graph speaks PyG's, scikit-learn's and torch's language."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import kneighbors_graph

from janelia_core import extras
from janelia_core.ml.neighbors import knn, knn_graph

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")  # torch warns of itself

X = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
MASK = torch.arange(60) % 20 == 3


def test_edges_run_from_neighbours_to_rows_nearest_first():
    edges = knn_graph(X, 4)
    gaps = torch.cdist(X, X) + 99 * torch.eye(60)
    assert edges.shape == (2, 240)
    assert torch.equal(edges[1], torch.arange(60).repeat_interleave(4))
    assert torch.equal(edges[0], gaps.topk(4, largest=False).indices.flatten())


def test_edges_to_other_centres_and_in_batches():
    ctrs = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(knn_graph(X, 2, ctrs)[0], knn(X, ctrs, 2).indices.flatten())
    batch = torch.arange(60) // 7  # the last batch has four rows
    edges = knn_graph(X, 5, x_batch=batch)
    assert torch.equal(batch[edges[0]], batch[edges[1]])
    assert torch.equal(torch.bincount(edges[1]), torch.tensor([5] * 56 + [3] * 4))


def test_distances_of_edges_are_differentiable():
    x = X.clone().requires_grad_()
    edges, distances = knn_graph(x, 3, mode="distance")
    torch.testing.assert_close(distances, (X[edges[0]] - X[edges[1]]).norm(dim=1))
    expected = torch.autograd.grad((x[edges[0]] - x[edges[1]]).norm(dim=1).sum(), x)
    torch.testing.assert_close(torch.autograd.grad(distances.sum(), x), expected)


@pytest.mark.parametrize("mode", ["connectivity", "distance"])
@pytest.mark.parametrize("include_self", [False, True])
def test_the_scipy_matrix_is_that_of_scikit_learn(mode, include_self):
    got = knn_graph(X, 5, form="scipy", mode=mode, include_self=include_self)
    expected = kneighbors_graph(X.numpy(), 5, mode=mode, include_self=include_self)
    assert type(got) is type(expected)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    assert np.array_equal(got.indptr, expected.indptr)
    assert np.array_equal(got.indices, expected.indices)
    np.testing.assert_allclose(got.data, expected.data, rtol=1e-15)


@pytest.mark.parametrize("mode", ["connectivity", "distance"])
@pytest.mark.parametrize("options", [{}, {"mask": MASK}], ids=["all", "fewer than k"])
def test_the_torch_matrix_is_the_scipy_one_with_columns_in_order(mode, options):
    got = knn_graph(X, 5, form="torch", mode=mode, **options)
    expected = knn_graph(X, 5, form="scipy", mode=mode, **options)
    checked = torch.sparse_csr_tensor(
        got.crow_indices(), got.col_indices(), got.values(), got.shape, check_invariants=True
    )
    assert np.array_equal(checked.to_dense().numpy(), expected.toarray())


def test_a_matrix_between_x_and_centres_is_rectangular_and_may_have_empty_rows():
    ctrs = X[:7]
    got = knn_graph(X[:3], 2, ctrs, form="scipy", mask=torch.zeros(7, dtype=torch.bool))
    assert got.shape == (3, 7)
    assert got.nnz == 0
    assert knn_graph(X[:3], 2, ctrs, mask=torch.zeros(7, dtype=torch.bool)).shape == (2, 0)


def test_without_scipy_the_error_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(extras.MissingExtraError, match=r"pip install 'janelia-core\[scipy\]'"):
        knn_graph(X, 2, form="scipy")
