"""Bad input is refused at the face, with an error that names the argument and the value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from janelia_core.ml.extra_torch_functions import LOG_2, knn_do, knn_mc

X, C = torch.zeros(4, 3), torch.zeros(9, 3)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: knn_mc([[0.0]], C, 1, 1), TypeError, "x must be a torch.Tensor.*got list"),
        (lambda: knn_mc(X, np.zeros((9, 3)), 1, 1), TypeError, "ctrs must be a torch.Tensor.*got ndarray"),
        (lambda: knn_mc(X[0], C, 1, 1), ValueError, r"x must have shape \(n_smps, d\), got \(3,\)"),
        (lambda: knn_mc(X, C[None], 1, 1), ValueError, r"ctrs must have shape \(n_ctrs, d\), got \(1, 9, 3\)"),
        (lambda: knn_mc(X, C[:, :2], 1, 1), ValueError, r"same number of columns.*\(4, 3\).*\(9, 2\)"),
        (lambda: knn_mc(X.cfloat(), C, 1, 1), TypeError, "x must hold real numbers, got dtype torch.complex64"),
        (lambda: knn_mc(X.to_sparse(), C, 1, 1), TypeError, r"x must be a dense tensor.*x.to_dense\(\)"),
        (lambda: knn_mc(X.to("meta"), C, 1, 1), ValueError, "must be on one device, got x on meta and ctrs on cpu"),
        (lambda: knn_mc(X, C, 10, 1), ValueError, "k must be at most n_ctrs = 9, got 10"),
        (lambda: knn_mc(X, C, 0, 1), ValueError, "k must be at least 1, got 0"),
        (lambda: knn_mc(X, C, True, 1), TypeError, "k must be an int, got bool: True"),
        (lambda: knn_mc(X, C, 1.0, 1), TypeError, "k must be an int, got float: 1.0"),
        (lambda: knn_mc(X, C, 1, 0), ValueError, "m must be at least 1, got 0"),
        (lambda: knn_mc(X, C, 1, None), TypeError, "m must be an int, got NoneType"),
        (
            lambda: knn_mc(X, C, 1, 1, max_memory=1000),
            ValueError,
            "max_memory must be at least 1048576 bytes.*got 1000",
        ),
        (
            lambda: knn_mc(X, C, 1, 1, max_memory=2.0**30),
            TypeError,
            "max_memory must be an int.*got float: 1073741824.0",
        ),
        (lambda: knn_do(X, C, 3, 1, 2), ValueError, "k must be at most n_ctrs_used = 2, got 3"),
        (lambda: knn_do(X, C, 1, 1, 0), ValueError, "n_ctrs_used must be at least 1, got 0"),
        (lambda: knn_do(X, C, 1, 1, 10), ValueError, "n_ctrs_used must be at most n_ctrs = 9, got 10"),
        (lambda: knn_do(X, C, 1, 1, 5, generator=7), TypeError, "generator must be a torch.Generator or None, got int"),
    ],
)
def test_bad_input_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_no_centres_is_an_error_since_k_is_at_least_one():
    with pytest.raises(ValueError, match="k = 1 asks for what is not there: n_ctrs = 0"):
        knn_mc(X, C[:0], 1, 1)


def test_a_bad_call_of_knn_do_consumes_no_random_number():
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="k must"):
        knn_do(X, C, 6, 1, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_numpy_integers_count_as_ints():
    assert knn_mc(X, C, np.int64(2), np.int32(5)).shape == (2, 4)


def test_the_result_is_int64_of_shape_k_by_samples_on_the_device_of_x():
    got = knn_mc(X, C, 5, 2)
    assert (got.dtype, got.shape, got.device) == (torch.int64, (5, 4), X.device)


def test_no_samples_give_an_empty_result():
    assert knn_mc(X[:0], C, 5, 2).shape == (5, 0)
    assert knn_do(X[:0], C, 5, 2, 7).shape == (5, 0)


def test_without_coordinates_all_centres_tie():
    assert knn_mc(torch.zeros(2, 0), torch.zeros(200, 0), 3, 50).tolist() == [[0, 0], [1, 1], [2, 2]]


def test_searching_a_tensor_in_itself_finds_each_row_first():
    points = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0))
    assert knn_mc(points, points, 2, 3000)[0].tolist() == list(range(3000))


def test_all_centres_used_means_no_dropout_and_no_random_number():
    before = torch.get_rng_state()
    assert torch.equal(knn_do(X, C, 3, 4, 9), knn_mc(X, C, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_generator_alone_supplies_the_draw():
    ctrs = torch.arange(50.0)[:, None]
    before = torch.get_rng_state()
    got = knn_do(torch.zeros(1, 1), ctrs, 3, 9, 10, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)
    drawn = torch.randperm(50, generator=torch.Generator().manual_seed(5))[:10]
    assert got[:, 0].tolist() == sorted(drawn.tolist())[:3]


def test_log_2_is_a_float32_scalar_tensor():
    assert (LOG_2.dtype, LOG_2.shape) == (torch.float32, torch.Size([]))
    assert LOG_2.item() == float(np.float32(np.log(2.0)))
