"""The port of torch_cluster answers as torch_cluster documents, and where it differs as its docstring says."""

from __future__ import annotations

import math

import pytest
import torch

from janelia_core.compat.torch_cluster import knn, knn_graph, nearest, radius, radius_graph

# The examples of the model's documentation.
CORNERS = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
SIDES = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
TWICE = torch.cat([CORNERS, CORNERS])
BATCH = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])


def test_pairs_have_rows_of_y_above_rows_of_x():
    zeros = torch.zeros(4, dtype=torch.int64)
    pairs = [[0, 0, 1, 1], [0, 1, 2, 3]]
    assert knn(CORNERS, SIDES, 2).tolist() == pairs
    assert knn(CORNERS, SIDES, 2, zeros, zeros[:2]).tolist() == pairs
    assert radius(CORNERS, SIDES, 1.5).tolist() == pairs
    assert radius(CORNERS, SIDES, 1.5, zeros, zeros[:2], 32, 1, 1).tolist() == pairs
    assert nearest(CORNERS, SIDES, zeros, zeros[:2]).tolist() == [0, 0, 1, 1]


def test_rows_meet_their_own_batch_and_a_batch_may_be_skipped():
    for second in (1, 3):
        batch_x, batch_y = BATCH * second, torch.tensor([0, second])
        assert knn(TWICE, SIDES, 2, batch_x, batch_y).tolist() == [[0, 0, 1, 1], [0, 1, 6, 7]]
        assert radius(TWICE, SIDES, 1.5, batch_x, batch_y).tolist() == [[0, 0, 1, 1], [0, 1, 6, 7]]
    assert nearest(TWICE, torch.cat([SIDES, SIDES]), BATCH, BATCH[2:6]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_batch_vector_left_out_is_all_zeros():
    assert knn(TWICE, SIDES, 9, BATCH).tolist() == [[0] * 4 + [1] * 4, [0, 1, 2, 3, 2, 3, 0, 1]]
    assert knn(CORNERS, SIDES, 1, batch_y=torch.tensor([0, 1])).tolist() == [[0], [0]]


def test_where_there_are_fewer_neighbours_there_are_fewer_pairs():
    assert knn(CORNERS[:1], SIDES, 3).tolist() == [[0, 1], [0, 0]]
    assert knn(CORNERS[:0], SIDES, 3).shape == radius(CORNERS[:0], SIDES, 3.0).shape == (2, 0)
    assert knn(CORNERS, SIDES[:0], 3).shape == radius(CORNERS, SIDES[:0], 3.0).shape == (2, 0)
    assert knn_graph(CORNERS[:1], 3).shape == radius_graph(CORNERS[:1], 3.0).shape == (2, 0)


def test_a_radius_is_strict():
    assert radius(CORNERS, SIDES, 1.0).shape == (2, 0)
    assert radius(CORNERS, SIDES, math.nextafter(1, 2)).tolist() == [[0, 0, 1, 1], [0, 1, 2, 3]]
    assert radius_graph(CORNERS, 2.0).shape == (2, 0)
    assert radius_graph(CORNERS, 2.0, loop=True).tolist() == [[0, 1, 2, 3]] * 2
    for r in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="r must be positive"):
            radius(CORNERS, SIDES, r)


def test_the_nearest_stay_where_there_are_more_than_the_greatest_number():
    x = torch.tensor([5.0, 3.0, -1.0, 2.0, 1.0])
    assert radius(x, torch.zeros(1), 4.0, max_num_neighbors=3).tolist() == [[0, 0, 0], [2, 4, 3]]
    assert radius_graph(torch.zeros(50, 2), 1.0)[1].bincount().tolist() == [32] * 50
    edges = radius_graph(TWICE, 100.0, BATCH, max_num_neighbors=1)
    assert edges.tolist() == [[1, 0, 0, 1, 5, 4, 4, 5], list(range(8))]


def test_edges_run_from_neighbour_to_row_or_the_other_way():
    edges = [[1, 2, 0, 3, 0, 3, 1, 2], [0, 0, 1, 1, 2, 2, 3, 3]]
    for graph in (knn_graph(CORNERS, 2), radius_graph(CORNERS, 2.5)):
        assert graph.tolist() == edges
    for graph in (
        knn_graph(CORNERS, 2, flow="target_to_source"),
        radius_graph(CORNERS, 2.5, flow="target_to_source"),
    ):
        assert graph.tolist() == edges[::-1]
    with pytest.raises(ValueError, match="flow must be"):
        knn_graph(CORNERS, 2, flow="there")


def test_a_loop_counts_as_a_neighbour():
    assert knn_graph(CORNERS, 2, loop=True).tolist() == [[0, 1, 1, 0, 2, 0, 3, 1], [0, 0, 1, 1, 2, 2, 3, 3]]
    assert knn_graph(TWICE, 2, BATCH)[1].tolist() == [i for i in range(8) for _ in range(2)]


def test_copies_of_a_row_are_its_neighbours_and_take_no_place_of_others():
    assert knn_graph(torch.zeros(5, 2), 2)[1].bincount().tolist() == [2] * 5
    assert knn_graph(torch.zeros(5, 2), 2)[0].tolist() == [1, 2, 0, 2, 0, 1, 0, 1, 0, 1]


def test_cosine_orders_by_direction():
    x = torch.tensor([[3.0, 3.0], [0.0, 1.0], [0.0, 0.0]])
    assert knn(x, torch.tensor([[0.0, 9.0]]), 3, cosine=True)[1].tolist() == [1, 0, 2]
    assert knn_graph(x, 1, cosine=True)[0].tolist() == [1, 0, 0]


def test_points_of_one_coordinate_need_no_second_dimension():
    x = torch.tensor([0.0, 1.0, 3.0])
    assert knn_graph(x, 1)[0].tolist() == [1, 0, 1]
    assert nearest(torch.tensor([0.9, 9.0]), x).tolist() == [1, 2]
    assert radius_graph(x, 1.5).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("batch_x", "batch_y"),
    [
        (BATCH, torch.zeros(4, dtype=torch.int64)),
        (BATCH, None),
        (torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), torch.tensor([0, 1, 3, 3])),
        (BATCH.flip(0), torch.tensor([0, 0, 1, 1])),
        (BATCH, torch.tensor([0, 0, 1, 0])),
        (BATCH[:7], torch.tensor([0, 0, 1, 1])),
    ],
)
def test_nearest_refuses_batches_without_an_answer(batch_x, batch_y):
    with pytest.raises(ValueError, match="batch"):
        nearest(TWICE, CORNERS, batch_x, batch_y)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_any_dtype_is_searched(dtype):
    assert knn(CORNERS.to(dtype), SIDES.to(dtype), 2).tolist() == [[0, 0, 1, 1], [0, 1, 2, 3]]
    assert radius(CORNERS.to(dtype), SIDES.to(dtype), 1.5).tolist() == [[0, 0, 1, 1], [0, 1, 2, 3]]
