"""knn() gives the one right answer for every kind of batch, mask and dtype, and distances that belong to it."""

from __future__ import annotations

import pytest
import torch

from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
from janelia_core.ml.neighbors import Neighbors, knn
from oracle import nearest
from problems import FLOATS, INTEGERS, PLANE, all_equal, duplicates, gaussian, lattice, not_finite

G = torch.Generator().manual_seed(0)


def points(*shape: int) -> torch.Tensor:
    """Points on a coarse lattice, so that ties are everywhere."""
    return torch.randint(-3, 4, shape, generator=G).float()


def by_definition(x, ctrs, k, may=None):
    """Return (n, k): the exact order of all centres, but for those that row i may not have, filled up with -1."""
    pairs = [[may is None or bool(may(i, j)) for j in range(len(ctrs))] for i in range(len(x))]
    return nearest(x, ctrs, k, allowed=torch.tensor(pairs).reshape(len(x), len(ctrs))).T


def check_distances(found: Neighbors, x, ctrs) -> None:
    """Distances are those to the indices, inf exactly where there is none."""
    missing = found.indices < 0
    assert torch.equal(missing, torch.isinf(found.distances))
    gap = x[:, None].double() - ctrs[found.indices.clamp(min=0)].double()
    expected = gap.square().sum(-1).sqrt().to(found.distances.dtype).masked_fill(missing, torch.inf)
    torch.testing.assert_close(found.distances, expected)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_indices_are_those_of_the_oracle_and_distances_belong_to_them(dtype):
    x, ctrs, k, _ = gaussian(dtype)
    found = knn(x, ctrs, k)
    assert torch.equal(found.indices.T, nearest(x, ctrs, k))
    wide = dtype in (torch.float64, torch.int64)
    assert found.distances.dtype == (torch.float64 if wide else torch.float32)
    assert found.indices.is_contiguous()
    check_distances(found, x, ctrs)


@pytest.mark.parametrize("problem", [lattice, duplicates, all_equal, lambda: not_finite(torch.float32)])
def test_ties_and_values_that_are_not_finite_are_those_of_knn_mc(problem):
    x, ctrs, k, _ = problem()
    assert torch.equal(knn(x, ctrs, k).indices.T, knn_mc(x, ctrs, k, len(ctrs)))


def test_no_coordinates_no_rows_and_no_batches_are_no_special_cases():
    assert knn(torch.zeros(3, 2, 0), torch.zeros(3, 5, 0), 2).indices.tolist() == [[[0, 1]] * 2] * 3
    assert knn(points(0, 2), points(5, 2), 2).distances.shape == (0, 2)
    assert knn(points(4, 0, 2), k=1, lengths=torch.zeros(4, dtype=torch.int64)).indices.shape == (4, 0, 1)


def test_the_result_is_a_named_tuple_like_those_of_torch():
    distances, indices = found = knn(points(4, 2), points(9, 2), 3)
    assert found._fields == ("distances", "indices")
    assert found.distances is distances
    assert found.indices is indices


@pytest.mark.parametrize("metric", PLANE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32])
def test_every_metric_has_its_own_order(metric, dtype):
    x, ctrs, k, _ = gaussian(dtype)
    found = knn(x, ctrs, k, metric=metric)
    assert torch.equal(found.indices.T, nearest(x, ctrs, k, metric))
    ascending = found.distances.diff(dim=1) >= 0
    assert ascending.all()


def test_squared_distances_have_the_same_indices():
    x, ctrs = points(30, 3), points(50, 3)
    plain, squared = knn(x, ctrs, 7), knn(x, ctrs, 7, metric="sqeuclidean")
    assert torch.equal(plain.indices, squared.indices)
    assert torch.equal(squared.distances, (x[:, None] - ctrs[squared.indices]).square().sum(-1))


@pytest.mark.parametrize("m", [1, 7, 1000])
@pytest.mark.parametrize("max_memory", [1 << 25, 1 << 30])
def test_blocks_and_memory_change_nothing(m, max_memory):
    x, ctrs = points(40, 3), points(90, 3)
    expected, got = knn(x, ctrs, 5), knn(x, ctrs, 5, m=m, max_memory=max_memory)
    assert torch.equal(got.indices, expected.indices)
    assert torch.equal(got.distances, expected.distances)


@pytest.mark.parametrize("include_self", [False, True])
def test_neighbours_among_x_leave_out_the_row_itself_by_its_index(include_self):
    x = points(60, 2)  # 49 places: many rows have copies of lower index
    assert len(x.unique(dim=0)) < 40
    expected = by_definition(x, x, 4, lambda i, j: include_self or i != j)
    assert torch.equal(knn(x, k=4, include_self=include_self).indices, expected)


def test_all_other_rows_can_be_asked_for():
    x = points(9, 2)
    assert torch.equal(knn(x, k=8).indices, by_definition(x, x, 8, lambda i, j: i != j))


@pytest.mark.parametrize(
    ("x_shape", "ctrs_shape"),
    [
        ((2, 3, 7, 2), (2, 3, 9, 2)),
        ((4, 7, 2), (9, 2)),
        ((7, 2), (4, 9, 2)),
        ((2, 1, 7, 2), (3, 9, 2)),
        ((0, 7, 2), (0, 9, 2)),
        ((3, 0, 2), (3, 9, 2)),
    ],
)
def test_leading_dimensions_broadcast(x_shape, ctrs_shape):
    x, ctrs = points(*x_shape), points(*ctrs_shape)
    found = knn(x, ctrs, 4)
    leading = torch.broadcast_shapes(x_shape[:-2], ctrs_shape[:-2])
    assert found.indices.shape == found.distances.shape == (*leading, x_shape[-2], 4)
    xs, cs = ([*t.expand(*leading, *t.shape[-2:]).flatten(0, -3)] for t in (x, ctrs))
    parts = zip(found.distances.flatten(0, -3), found.indices.flatten(0, -3), xs, cs, strict=True)
    for distances, indices, x_part, ctrs_part in parts:
        assert torch.equal(indices, by_definition(x_part, ctrs_part, 4))
        check_distances(Neighbors(distances, indices), x_part, ctrs_part)


def test_neighbours_among_each_batch_of_x():
    x = points(3, 8, 2)
    found = knn(x, k=3)
    for part, indices in zip(x, found.indices, strict=True):
        assert torch.equal(indices, by_definition(part, part, 3, lambda i, j: i != j))


X_BATCH = torch.tensor([0] * 5 + [2] * 6 + [3] * 4 + [7] * 2)
CTRS_BATCH = torch.tensor([0] * 3 + [1] * 4 + [2] * 10 + [7])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_ragged_batches_meet_only_their_own_centres(dtype):
    x, ctrs = points(17, 2), points(18, 2)
    found = knn(x, ctrs, 4, x_batch=X_BATCH.to(dtype), ctrs_batch=CTRS_BATCH.to(dtype))
    expected = by_definition(x, ctrs, 4, lambda i, j: X_BATCH[i] == CTRS_BATCH[j])
    assert torch.equal(found.indices, expected)  # numbered among all centres; -1 where there are fewer than 4
    check_distances(found, x, ctrs)


def test_ragged_neighbours_among_x():
    x = points(17, 2)
    found = knn(x, k=4, x_batch=X_BATCH)
    assert torch.equal(found.indices, by_definition(x, x, 4, lambda i, j: i != j and X_BATCH[i] == X_BATCH[j]))


def test_padding_is_never_a_neighbour_and_has_none():
    x, ctrs = points(3, 6, 2), points(3, 8, 2)
    lengths, ctrs_lengths = torch.tensor([6, 2, 0]), torch.tensor([3, 8, 5])
    found = knn(x, ctrs, 4, lengths=lengths, ctrs_lengths=ctrs_lengths)
    for b in range(3):
        inside = by_definition(x[b], ctrs[b], 4, lambda i, j, b=b: i < lengths[b] and j < ctrs_lengths[b])
        assert torch.equal(found.indices[b], inside)
        check_distances(Neighbors(found.distances[b], found.indices[b]), x[b], ctrs[b])
    among = knn(x, k=4, lengths=lengths)
    for b in range(3):
        inside = by_definition(x[b], x[b], 4, lambda i, j, b=b: i != j and max(i, j) < lengths[b])
        assert torch.equal(among.indices[b], inside)


def test_a_mask_of_centres_leaves_the_allowed_ones():
    x, ctrs = points(20, 2), points(40, 2)
    mask = torch.rand(40, generator=G) < 0.1
    for allowed in (mask, ~mask, torch.zeros(40, dtype=torch.bool)):
        found = knn(x, ctrs, 6, mask=allowed)
        assert torch.equal(found.indices, by_definition(x, ctrs, 6, lambda i, j, a=allowed: a[j]))
        check_distances(found, x, ctrs)


def test_a_mask_of_centres_holds_for_every_batch():
    x, ctrs = points(2, 5, 2), points(2, 9, 2)
    mask = torch.arange(9) % 2 == 0
    found = knn(x, ctrs, 6, mask=mask)
    for b in range(2):
        assert torch.equal(found.indices[b], by_definition(x[b], ctrs[b], 6, lambda i, j: mask[j]))
    ragged = points(17, 2), points(18, 2)
    mask = torch.rand(18, generator=G) < 0.6
    found = knn(*ragged, 3, mask=mask, x_batch=X_BATCH, ctrs_batch=CTRS_BATCH)
    assert torch.equal(found.indices, by_definition(*ragged, 3, lambda i, j: mask[j] and X_BATCH[i] == CTRS_BATCH[j]))


def test_a_mask_of_centres_goes_with_neighbours_among_x():
    x = points(30, 2)
    mask = torch.rand(30, generator=G) < 0.4
    assert torch.equal(knn(x, k=5, mask=mask).indices, by_definition(x, x, 5, lambda i, j: i != j and mask[j]))


def test_a_draw_of_centres_is_that_of_knn_do():
    x, ctrs = points(30, 3), points(60, 3)
    seed = torch.Generator().manual_seed(3)
    expected = knn_do(x, ctrs, 4, 60, 20, generator=seed)
    found = knn(x, ctrs, 4, sample=20, generator=seed.manual_seed(3))
    assert torch.equal(found.indices.T, expected)
    check_distances(found, x, ctrs)


def test_a_draw_goes_with_a_mask_and_holds_for_every_batch():
    x, ctrs = points(2, 5, 2), points(2, 30, 2)
    mask = torch.rand(30, generator=G) < 0.5
    found = knn(x, ctrs, 4, mask=mask, sample=12, generator=torch.Generator().manual_seed(1))
    drawn = torch.randperm(30, generator=torch.Generator().manual_seed(1))[:12].tolist()
    for b in range(2):
        assert torch.equal(found.indices[b], by_definition(x[b], ctrs[b], 4, lambda i, j: mask[j] and j in drawn))


def test_all_centres_drawn_means_no_random_number():
    before = torch.get_rng_state()
    x, ctrs = points(3, 2), points(8, 2)
    assert torch.equal(knn(x, ctrs, 2, sample=8).indices, knn(x, ctrs, 2).indices)
    assert torch.equal(torch.get_rng_state(), before)


def test_inputs_are_never_written_and_global_state_is_as_before():
    x, ctrs = points(400, 3).requires_grad_(), points(500, 3).requires_grad_()
    copies, threads, state = (x.clone(), ctrs.clone()), torch.get_num_threads(), torch.get_rng_state()
    knn(x, ctrs, 9).distances.sum().backward()
    assert torch.equal(x, copies[0])
    assert torch.equal(ctrs, copies[1])
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_indices_of_pytorch3d_and_pyg_are_ours_where_nothing_ties():
    x, ctrs = torch.randn(2, 6, 3, generator=G), torch.randn(2, 9, 3, generator=G)
    squared = (x[:, :, None] - ctrs[:, None]).square().sum(-1)
    dists, idx = squared.topk(4, largest=False)  # pytorch3d.ops.knn_points: squared distances (N, P1, K), idx
    found = knn(x, ctrs, 4, metric="sqeuclidean")
    assert torch.equal(found.indices, idx)
    torch.testing.assert_close(found.distances, dists)
    batch = torch.arange(2)
    found = knn(
        x.flatten(0, 1),
        ctrs.flatten(0, 1),
        4,
        x_batch=batch.repeat_interleave(6),
        ctrs_batch=batch.repeat_interleave(9),
    )
    rows, cols = torch.arange(12).repeat_interleave(4), (idx + 9 * batch[:, None, None]).flatten()
    # torch_cluster.knn(x=ctrs, y=x): a row of queries, a row of their neighbours
    assert torch.equal(torch.stack([rows, cols]), torch.stack([rows, found.indices.flatten()]))


def test_a_mask_says_who_may_meet_whom():
    x, ctrs = points(20, 2), points(40, 2)
    mask = torch.rand(20, 40, generator=G) < 0.2
    mask[3], mask[4] = False, True
    expected = by_definition(x, ctrs, 6, lambda i, j: mask[i, j])
    for given in (mask, mask.T.contiguous().T, lambda rows, first, last: mask[rows, first:last]):
        found = knn(x, ctrs, 6, mask=given)
        assert torch.equal(found.indices, expected)
        check_distances(found, x, ctrs)
    same_for_all = mask[4:5] & (torch.arange(40) > 30)
    found = knn(x, ctrs, 6, mask=same_for_all)
    assert torch.equal(found.indices, by_definition(x, ctrs, 6, lambda i, j: j > 30))


def test_a_mask_goes_with_every_kind_of_batch():
    x, ctrs = points(3, 6, 2), points(3, 8, 2)
    for shape in ((3, 6, 8), (6, 8), (3, 1, 8)):
        mask = torch.rand(*shape, generator=G) < 0.5
        found = knn(x, ctrs, 4, mask=mask)
        for b, part in enumerate(mask.expand(3, 6, 8)):
            expected = by_definition(x[b], ctrs[b], 4, lambda i, j, part=part: part[i, j])
            assert torch.equal(found.indices[b], expected)
    x, ctrs = points(17, 2), points(18, 2)
    mask = torch.rand(17, 18, generator=G) < 0.6
    expected = by_definition(x, ctrs, 4, lambda i, j: mask[i, j] and X_BATCH[i] == CTRS_BATCH[j])
    for given in (mask, lambda rows, first, last: mask[rows, first:last]):
        found = knn(x, ctrs, 4, mask=given, x_batch=X_BATCH, ctrs_batch=CTRS_BATCH)
        assert torch.equal(found.indices, expected)


def test_a_mask_goes_with_neighbours_among_x_and_with_a_draw():
    x = points(30, 2)
    mask = torch.rand(30, 30, generator=G) < 0.4
    found = knn(x, k=5, mask=mask)
    assert torch.equal(found.indices, by_definition(x, x, 5, lambda i, j: i != j and mask[i, j]))
    found = knn(x, x, 5, mask=mask, sample=12, generator=torch.Generator().manual_seed(1))
    drawn = torch.randperm(30, generator=torch.Generator().manual_seed(1))[:12].tolist()
    assert torch.equal(found.indices, by_definition(x, x, 5, lambda i, j: mask[i, j] and j in drawn))
