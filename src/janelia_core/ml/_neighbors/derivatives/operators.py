"""The operators that distances and their derivatives are made of, as torch.compile and torch.export take them whole.

Their derivatives and their rules of vmap are given to them beside the Functions that know these.
"""

from __future__ import annotations

from torch import Tensor
from torch.library import custom_op

from janelia_core.ml._knn.distances.distances import distances as true_distances
from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._neighbors.derivatives import norm_pairs, pairs, sign_pairs
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs
from janelia_core.ml._runtime.transforms import NOT_FOR_GRAPHS, bare


@custom_op("janelia_core::knn_distances", mutates_args=(), tags=NOT_FOR_GRAPHS)
def knn_distances(x: Tensor, ctrs: Tensor, indices: Tensor, first: Tensor, metric: str, budget: int) -> Tensor:
    """Evaluate the distances (n, k)."""
    return _distances(x, ctrs, indices, first, metric, budget)


@custom_op("janelia_core::knn_cosines", mutates_args=(), tags=NOT_FOR_GRAPHS)
def knn_cosines(x: Tensor, ctrs: Tensor, ux: Tensor, uc: Tensor, indices: Tensor, first: Tensor, budget: int) -> Tensor:
    """Evaluate the cosine distances (n, k) of x and ctrs, whose unit vectors, ux and uc, they move with."""
    return _distances(x, ctrs, indices, first, "cosine", budget)


@custom_op("janelia_core::knn_angles", mutates_args=(), tags=NOT_FOR_GRAPHS)
def knn_angles(x: Tensor, ctrs: Tensor, px: Tensor, pc: Tensor, indices: Tensor, first: Tensor, budget: int) -> Tensor:
    """Evaluate the angles (n, k) between places x and ctrs, whose points of the sphere, px and pc, they move with."""
    return _distances(x, ctrs, indices, first, "haversine", budget)


def _distances(x: Tensor, ctrs: Tensor, indices: Tensor, first: Tensor, metric: str, budget: int) -> Tensor:
    centres = Pairs(indices, first).centres
    return true_distances(bare(x), bare(ctrs), bare(indices), metric, budget, centres=centres)


@custom_op("janelia_core::knn_pair_products", mutates_args=(), tags=NOT_FOR_GRAPHS)
def knn_pair_products(
    u: Tensor,
    v: Tensor,
    x: Tensor,
    c: Tensor,
    indices: Tensor,
    first: Tensor,
    differences: bool,
    factor: float,
    budget: int,
) -> Tensor:
    """Evaluate Q or B of each pair (n, k), times a factor."""
    return pairs.products(u, v, x, c, Pairs(indices, first), differences, factor, budget)


@custom_op("janelia_core::knn_pair_sums", mutates_args=(), tags=NOT_FOR_GRAPHS)
def knn_pair_sums(
    w: Tensor, x: Tensor, c: Tensor, indices: Tensor, first: Tensor, differences: bool, factor: float, budget: int
) -> tuple[Tensor, Tensor]:
    """Evaluate L(w) or A(w), times a factor: sums by row (n, d) and by centre (m, d)."""
    return pairs.sums(w, x, c, Pairs(indices, first), differences, factor, budget)


@custom_op("janelia_core::knn_norm_values", mutates_args=(), tags=NOT_FOR_GRAPHS)
def knn_norm_values(
    u: Tensor, v: Tensor, x: Tensor, c: Tensor, r: Tensor, indices: Tensor, first: Tensor, budget: int
) -> Tensor:
    """Evaluate derivatives of Euclidean distances along directions (n, k)."""
    return norm_pairs.values(u, v, x, c, r, Pairs(indices, first), budget)


@custom_op("janelia_core::knn_norm_sums", mutates_args=(), tags=NOT_FOR_GRAPHS)
def knn_norm_sums(
    w: Tensor, u: Tensor, v: Tensor, x: Tensor, c: Tensor, r: Tensor, indices: Tensor, first: Tensor, budget: int
) -> tuple[Tensor, Tensor]:
    """Evaluate sums of open derivatives of Euclidean distances: by row (n, d) and by centre (m, d)."""
    return norm_pairs.sums(w, u, v, x, c, r, Pairs(indices, first), budget)


@custom_op("janelia_core::knn_sign_values", mutates_args=(), tags=NOT_FOR_GRAPHS)
def knn_sign_values(
    u: Tensor, v: Tensor, x: Tensor, c: Tensor, indices: Tensor, first: Tensor, largest: bool, budget: int
) -> Tensor:
    """Evaluate derivatives of manhattan distances (of the largest differences: chebyshev) along a direction (n, k)."""
    return sign_pairs.values(u, v, x, c, Pairs(indices, first), largest, budget)


@custom_op("janelia_core::knn_sign_sums", mutates_args=(), tags=NOT_FOR_GRAPHS)
def knn_sign_sums(
    w: Tensor, x: Tensor, c: Tensor, indices: Tensor, first: Tensor, largest: bool, budget: int
) -> tuple[Tensor, Tensor]:
    """Evaluate sums of open derivatives of these: by row (n, d) and by centre (m, d)."""
    return sign_pairs.sums(w, x, c, Pairs(indices, first), largest, budget)


def _like_points(x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    dtype = result_dtype(x, c)
    return x.new_empty(x.shape, dtype=dtype), x.new_empty(c.shape, dtype=dtype)


def _like_pairs(x: Tensor, c: Tensor, indices: Tensor) -> Tensor:
    return x.new_empty(indices.shape, dtype=result_dtype(x, c))


knn_distances.register_fake(lambda x, ctrs, indices, *_: _like_pairs(x, ctrs, indices))
knn_cosines.register_fake(lambda x, ctrs, ux, uc, indices, *_: _like_pairs(x, ctrs, indices))
knn_angles.register_fake(lambda x, ctrs, px, pc, indices, *_: _like_pairs(x, ctrs, indices))
knn_pair_products.register_fake(lambda u, v, x, c, indices, *_: _like_pairs(x, c, indices))
knn_pair_sums.register_fake(lambda w, x, c, *_: _like_points(x, c))
knn_norm_values.register_fake(lambda u, v, x, c, r, indices, *_: x.new_empty(indices.shape, dtype=r.dtype))
knn_norm_sums.register_fake(lambda w, u, v, x, c, *_: _like_points(x, c))
knn_sign_values.register_fake(lambda u, v, x, c, indices, *_: _like_pairs(x, c, indices))
knn_sign_sums.register_fake(lambda w, x, c, *_: _like_points(x, c))
