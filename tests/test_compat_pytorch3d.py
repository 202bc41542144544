"""The port of pytorch3d answers as pytorch3d documents, and where it differs as its docstring says."""

from __future__ import annotations

import math

import pytest
import torch

from janelia_core.compat.pytorch3d import ball_query, knn_gather, knn_points

N, P1, P2, D, K = 3, 7, 9, 3, 4
LENGTHS1, LENGTHS2 = torch.tensor([7, 3, 0]), torch.tensor([9, 2, 5])


def clouds(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(N, points, D, generator=g).to(dtype) for points in (P1, P2))


def values(p1: torch.Tensor, p2: torch.Tensor, norm: int) -> torch.Tensor:
    gaps = (p1[:, :, None] - p2[:, None]).abs()
    return gaps.square().sum(-1) if norm == 2 else gaps.sum(-1)


@pytest.mark.parametrize("norm", [1, 2])
def test_knn_points_gives_distances_indices_and_points_padded_by_zeros(norm):
    p1, p2 = clouds()
    found = knn_points(p1, p2, LENGTHS1, LENGTHS2, norm=norm, K=K, return_nn=True)
    all_values = values(p1, p2, norm)
    for n in range(N):
        k = min(K, int(LENGTHS2[n]))
        best = all_values[n, : LENGTHS1[n], : LENGTHS2[n]].topk(k, largest=False)
        torch.testing.assert_close(found.dists[n, : LENGTHS1[n], :k], best.values)
        assert torch.equal(found.idx[n, : LENGTHS1[n], :k], best.indices)
        for part in (found.dists, found.idx):
            assert (part[n, LENGTHS1[n] :] == 0).all()
            assert (part[n, :, k:] == 0).all()
        assert torch.equal(found.knn[n, : LENGTHS1[n], :k], p2[n][best.indices])
        assert (found.knn[n, :, k:] == 0).all()


def test_one_neighbour_is_the_default_and_points_come_on_demand():
    found = knn_points(*clouds(torch.float32))
    assert found.idx.shape == found.dists.shape == (N, P1, 1)
    assert (found.dists.dtype, found.idx.dtype, found.knn) == (torch.float32, torch.int64, None)


def test_more_neighbours_than_points_are_padded():
    p1, p2 = clouds()
    found = knn_points(p1, p2, K=P2 + 2, version=3, return_nn=True)
    assert (found.dists[..., P2:] == 0).all()
    assert (found.idx[..., P2:] == 0).all()
    assert (found.knn[:, :, P2:] == 0).all()
    assert (found.idx[..., :P2].sort().values == torch.arange(P2)).all()
    empty = knn_points(p1, p2[:, :0], K=2, return_nn=True)
    assert empty.knn.shape == (N, P1, 2, D)
    assert not any(part.any() for part in empty)


def test_ties_go_to_the_lowest_index_whether_sorted_or_not():
    p1, p2 = torch.zeros(1, 1, 2), torch.tensor([[[0.0, 2.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    for return_sorted in (True, False):
        assert knn_points(p1, p2, K=4, return_sorted=return_sorted).idx.tolist() == [[[1, 2, 3, 0]]]


def test_gathered_features_are_zero_beyond_the_lengths():
    features, idx = torch.arange(30.0).reshape(3, 5, 2), torch.tensor([[[4, 1, 0]], [[3, 0, 0]], [[0, 0, 0]]])
    every = knn_gather(features, idx)
    assert every[:, 0, :, 0].tolist() == [[8, 2, 0], [16, 10, 10], [20, 20, 20]]
    some = knn_gather(features, idx, torch.tensor([5, 1, 0]))
    assert some[:, 0, :, 0].tolist() == [[8, 2, 0], [16, 0, 0], [0, 0, 0]]
    assert knn_gather(features, idx - 1)[:, 0, :, 1].tolist() == [[7, 1, 0], [15, 0, 0], [0, 0, 0]]


def test_a_ball_holds_the_first_points_within_it_by_index():
    p1, p2 = clouds(torch.float32)
    found = ball_query(p1, p2, LENGTHS1, LENGTHS2, K=2, radius=1.5)
    squares = values(p1, p2, 2)
    full = 0
    for n in range(N):
        for i in range(P1):
            inside = [j for j in range(LENGTHS2[n]) if i < LENGTHS1[n] and squares[n, i, j] < 2.25]
            full += len(inside) > 2
            first = inside[:2] + [-1] * (2 - len(inside))
            assert found.idx[n, i].tolist() == first
            torch.testing.assert_close(found.dists[n, i], torch.where(found.idx[n, i] >= 0, squares[n, i, first], 0))
            assert torch.equal(found.knn[n, i], torch.where(found.idx[n, i, :, None] >= 0, p2[n][first], 0))
    assert full  # some balls hold more


def test_a_ball_is_open_and_its_radius_a_float32():
    p1, p2 = torch.zeros(1, 1, 1), torch.tensor([[[0.7], [0.0], [-0.7], [math.nextafter(0.7, 0)]]])
    for radius in (0.7, torch.tensor(0.7).item()):
        assert ball_query(p1, p2, K=5, radius=radius).idx.tolist() == [[[1, -1, -1, -1, -1]]]
    beyond = torch.nextafter(torch.tensor(0.7), torch.tensor(1.0)).item()
    assert ball_query(p1, p2, K=5, radius=beyond).idx.tolist() == [[[0, 1, 2, 3, -1]]]
    assert ball_query(p1, p2, radius=beyond, return_nn=False)[0].shape == (1, 1, 500)
    for radius in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="radius must be above 0"):
            ball_query(p1, p2, radius=radius)


@pytest.mark.parametrize("norm", [1, 2])
def test_distances_and_points_have_derivatives(norm):
    p1, p2 = (points.requires_grad_() for points in clouds())

    def nearest(p1, p2):
        return knn_points(p1, p2, LENGTHS1, LENGTHS2, norm=norm, K=K, return_nn=True)[::2]

    def within(p1, p2):
        return ball_query(p1, p2, LENGTHS1, LENGTHS2, K=2, radius=1.5)[::2]

    assert torch.autograd.gradcheck(nearest, (p1, p2), fast_mode=True)
    assert torch.autograd.gradcheck(within, (p1, p2), fast_mode=True)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p1, p2: knn_points(p1, p2[:2]), "as many clouds"),
        (lambda p1, p2: knn_points(p1, p2[..., :2]), "as many clouds"),
        (lambda p1, p2: ball_query(p1[0], p2[0]), "as many clouds"),
        (lambda p1, p2: knn_points(p1, p2, norm=3), "norm must be 1 or 2"),
        (lambda p1, p2: knn_points(p1, p2, K=0), "k must be at least 1"),
        (lambda p1, p2: knn_points(p1, p2, torch.tensor([8, 0, 0])), "lengths must be between 0 and 7"),
        (lambda p1, p2: knn_gather(p1, torch.zeros(2, 1, 1, dtype=torch.int64)), "same number of clouds"),
    ],
)
def test_clouds_that_do_not_fit_are_an_error(call, says):
    with pytest.raises(ValueError, match=says):
        call(*clouds())
