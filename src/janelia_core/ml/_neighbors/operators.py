"""The operators that distances and their derivatives are made of, as torch.compile and torch.export take them whole.

Their derivatives and their behaviour under vmap are registered in gradients.py.
"""

from __future__ import annotations

from torch import Tensor
from torch.library import custom_op

from janelia_core.ml._knn.distances import distances as true_distances
from janelia_core.ml._neighbors import pairs
from janelia_core.ml._neighbors.pairs import result_dtype
from janelia_core.ml._runtime.transforms import bare


@custom_op("janelia_core::knn_distances", mutates_args=())
def knn_distances(x: Tensor, ctrs: Tensor, indices: Tensor, metric: str, budget: int) -> Tensor:
    """Evaluate the distances (n, k)."""
    return true_distances(bare(x), bare(ctrs), bare(indices), metric, budget)


@custom_op("janelia_core::knn_pair_products", mutates_args=())
def knn_pair_products(
    u: Tensor, v: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int
) -> Tensor:
    """Evaluate Q or B of each pair (n, k)."""
    return pairs.products(u, v, x, c, indices, differences, budget)


@custom_op("janelia_core::knn_pair_sums", mutates_args=())
def knn_pair_sums(
    w: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int
) -> tuple[Tensor, Tensor]:
    """Evaluate L(w) or A(w): sums by row (n, d) and by centre (m, d)."""
    return pairs.sums(w, x, c, indices, differences, budget)


@knn_distances.register_fake
def _(x: Tensor, ctrs: Tensor, indices: Tensor, metric: str, budget: int) -> Tensor:
    return x.new_empty(indices.shape, dtype=result_dtype(x, ctrs))


@knn_pair_products.register_fake
def _(u: Tensor, v: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int) -> Tensor:
    return x.new_empty(indices.shape, dtype=result_dtype(x, c))


@knn_pair_sums.register_fake
def _(w: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int) -> tuple[Tensor, Tensor]:
    dtype = result_dtype(x, c)
    return x.new_empty(x.shape, dtype=dtype), x.new_empty(c.shape, dtype=dtype)
