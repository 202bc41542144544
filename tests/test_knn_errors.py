"""knn refuses bad arguments by name, before any work, and consumes no random number then."""

from __future__ import annotations

import pytest
import torch

from janelia_core.ml import NearestCenters, PiecewiseLinear
from janelia_core.ml.neighbors import knn, knn_graph

X, C = torch.zeros(4, 3), torch.zeros(9, 3)
XB, CB = torch.zeros(2, 4, 3), torch.zeros(2, 9, 3)
ROWS = torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: knn([[0.0]], C), TypeError, "x must be a torch.Tensor.*got list"),
        (lambda: knn(X, C.numpy()), TypeError, "ctrs must be a torch.Tensor.*got ndarray"),
        (lambda: knn(X[0], C), ValueError, r"x must have shape \(..., n_smps, d\), got \(3,\)"),
        (lambda: knn(X, C[0]), ValueError, r"ctrs must have shape \(..., n_ctrs, d\), got \(3,\)"),
        (lambda: knn(X, C[:, :2]), ValueError, r"same number of columns.*\(4, 3\).*\(9, 2\)"),
        (lambda: knn(XB, torch.zeros(3, 9, 3)), ValueError, r"leading dimensions.*x \(2, 4, 3\) and ctrs \(3, 9, 3\)"),
        (lambda: knn(X.cfloat(), C), TypeError, "x must hold real numbers, got dtype torch.complex64"),
        (lambda: knn(X.to_sparse(), C), TypeError, r"x must be a dense tensor.*x.to_dense\(\)"),
        (lambda: knn(X.to("meta"), C), ValueError, "must be on one device, got x on meta and ctrs on cpu"),
        (lambda: knn(X, C, 0), ValueError, "k must be at least 1, got 0"),
        (lambda: knn(X, C, 2.0), TypeError, "k must be an int, got float: 2.0"),
        (lambda: knn(X, C, include_self=True), ValueError, "include_self=True is for ctrs=None"),
        (lambda: knn(X, C, metric="l2"), ValueError, "metric must be one of 'euclidean',.*'dot', .*, got 'l2'"),
        (lambda: knn(X, C, metric=2), ValueError, "metric must be one of .*, got 2"),
        (lambda: knn(X, C, metric=[]), ValueError, r"metric must be one of .*, got \[\]"),
        (lambda: knn(X, C, m=0), ValueError, "m must be at least 1, got 0"),
        (lambda: knn(X, C, max_memory=1000), ValueError, r"max_memory must be at least 1048576 bytes.*got 1000"),
        (lambda: knn(X, C, max_memory=1e9), TypeError, "max_memory must be an int, a number of bytes, got float"),
        (lambda: knn(X, C, sample=0), ValueError, "sample must be at least 1, got 0"),
        (lambda: knn(X, C, sample=10), ValueError, "sample must be at most n_ctrs = 9, got 10"),
        (lambda: knn(X, C, sample=5, generator=7), TypeError, "generator must be a torch.Generator or None, got int"),
        (lambda: knn(X, C, x_batch=ROWS), ValueError, "x_batch and ctrs_batch come together, got x_batch without"),
        (lambda: knn(X, C, ctrs_batch=ROWS), ValueError, "come together, got ctrs_batch without x_batch"),
        (lambda: knn(X, ctrs_batch=ROWS), ValueError, "ctrs_batch needs ctrs, which is None"),
        (lambda: knn(X, x_batch=[0, 0, 1, 1]), TypeError, "x_batch must be an integer torch.Tensor, got list"),
        (lambda: knn(X, x_batch=ROWS.float()), TypeError, "x_batch must be.*int64 or int32, got torch.float32"),
        (lambda: knn(X, x_batch=ROWS[:3]), ValueError, r"x_batch must have shape \(n,\).*got \(3,\) for x \(4, 3\)"),
        (lambda: knn(XB, x_batch=ROWS), ValueError, r"x_batch must have shape.*for x \(2, 4, 3\)"),
        (lambda: knn(X, x_batch=ROWS.to("meta")), ValueError, "x_batch must be on x's device cpu, got meta"),
        (
            lambda: knn(X, x_batch=torch.tensor([0, 2, 1, 1])),
            ValueError,
            r"x_batch must be sorted in ascending order, got x_batch\[1\] = 2 and x_batch\[2\] = 1",
        ),
        (lambda: knn(XB, k=1, lengths=4), TypeError, "lengths must be an integer torch.Tensor, got int"),
        (lambda: knn(XB, k=1, lengths=ROWS), ValueError, r"lengths must have the leading dimensions of x.*\(2,\)"),
        (lambda: knn(X, k=1, lengths=ROWS), ValueError, "lengths must have the leading dimensions of x"),
        (lambda: knn(XB, k=1, lengths=torch.tensor([5, 1])), ValueError, "lengths must be between 0 and 4.*got 1 to 5"),
        (lambda: knn(XB, k=1, lengths=torch.tensor([-1, 1])), ValueError, "lengths must be between 0 and 4.*got -1"),
        (lambda: knn(XB, CB, ctrs_lengths=torch.tensor([0, 10])), ValueError, "ctrs_lengths must be between 0 and 9"),
        (lambda: knn(XB, k=1, ctrs_lengths=ROWS[:2]), ValueError, "ctrs_lengths needs ctrs, which is None"),
        (lambda: knn(X, C, mask=[True] * 9), TypeError, "mask must be a bool tensor or a callable, got list"),
        (lambda: knn(X, C, mask=torch.ones(9)), TypeError, "mask must be of dtype torch.bool.*got torch.float32"),
        (
            lambda: knn(X, C, mask=torch.ones(4, dtype=torch.bool)),
            ValueError,
            r"mask must have shape \(n_ctrs,\) = \(9,\) or broadcast to .* = \(4, 9\), got \(4,\)",
        ),
        (lambda: knn(X, C, mask=torch.ones(3, 9, dtype=torch.bool)), ValueError, r"mask must have.*got \(3, 9\)"),
        (lambda: knn(X, C, mask=torch.ones(4, 1, dtype=torch.bool)), ValueError, r"mask must have.*got \(4, 1\)"),
        (lambda: knn(X, C, mask=torch.ones(2, 4, 9, dtype=torch.bool)), ValueError, r"mask must.*got \(2, 4, 9\)"),
        (lambda: knn(XB, CB, mask=lambda *_: None), ValueError, "a callable mask numbers rows and centres of x"),
        (lambda: knn_graph(X, 1, form="csr"), ValueError, "form must be one of 'edge_index', 'scipy', 'torch', got"),
        (lambda: knn_graph(X, 1, mode="weights"), ValueError, "mode must be one of 'connectivity', 'distance', got"),
        (lambda: knn_graph(XB, 1), ValueError, r"x must have shape \(n_smps, d\), got \(2, 4, 3\).*give x_batch"),
        (lambda: NearestCenters([[0.0]], 1), TypeError, "ctrs must be a torch.Tensor"),
        (lambda: NearestCenters(CB, 1), ValueError, r"ctrs must have shape \(n_ctrs, d\), got \(2, 9, 3\)"),
        (lambda: NearestCenters(C, 10), ValueError, "k must be at most n_ctrs = 9, got 10"),
        (lambda: NearestCenters(C, 3, 2), ValueError, "k must be at most n_ctrs_used = 2, got 3"),
        (lambda: NearestCenters(C, 3, 10), ValueError, "n_ctrs_used must be at most n_ctrs = 9, got 10"),
        (lambda: NearestCenters(C, 3, m=0), ValueError, "m must be at least 1, got 0"),
        (lambda: NearestCenters(C, 3, metric="l1"), ValueError, "metric must be one of"),
        (lambda: NearestCenters(C, 3)([1.0]), TypeError, "x must be a torch.Tensor"),
        (lambda: NearestCenters(C, 3)(X[:, :2]), ValueError, "same number of columns"),
        (lambda: PiecewiseLinear(C, 0, 3), ValueError, "n_outputs must be at least 1, got 0"),
        (lambda: PiecewiseLinear(C.long(), 1, 3), TypeError, "ctrs must be of a floating dtype.*got torch.int64"),
        (lambda: PiecewiseLinear(C, 1, 3)(torch.tensor(1.0)), ValueError, r"x must have shape.*got \(\)"),
        (lambda: PiecewiseLinear(C, 1, 3)(X[:, :2]), ValueError, "same number of columns"),
    ],
)
def test_bad_input_is_named(call, error, says):
    before = torch.get_rng_state()
    with pytest.raises(error, match=says):
        call()
    assert torch.equal(torch.get_rng_state(), before)
