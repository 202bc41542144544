"""What other libraries call our options and metrics: errors name ours, so that nobody has to look them up."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from janelia_core.ml._knn.metrics.registry import METRICS

P = ParamSpec("P")
T = TypeVar("T")

_P = "metric=: 'manhattan' for 1, 'euclidean' for 2, 'chebyshev' for inf; others are not known"
_OPTIONS = {
    "batch": "x_batch=batch, the batch of each row",
    "batch_x": "x_batch=",
    "batch_y": "ctrs_batch=",
    "batch_index": "x_batch=",
    "batch_size": "nothing: memory alone decides, max_memory=",
    "loop": "include_self=, True if a row may be its own neighbour",
    "cosine": "metric='cosine'",
    "y": "ctrs=, which are searched for neighbours of the rows of x",
    "p1": "x=",
    "p2": "ctrs=",
    "lengths1": "lengths=",
    "lengths2": "ctrs_lengths=",
    "K": "k=",
    "norm": _P,
    "p": _P,
    "n_neighbors": "k=",
    "num_neighbors": "k=",
    "return_distance": "nothing: knn returns both, knn_graph takes mode='distance'",
    "return_distances": "nothing: knn returns both, knn_graph takes mode='distance'",
    "return_nn": "nothing: the Neighbors that knn returns have a method gather(values)",
    "return_sorted": "nothing: neighbours always come nearest first",
    "largest": "metric='dot', whose smallest distances are the largest products",
    "flow": "nothing: edges run from neighbour to row; edge_index.flip(0) turns them round",
    "num_workers": "nothing: torch.set_num_threads counts",
    "n_jobs": "nothing: torch.set_num_threads counts",
    "algorithm": "nothing: each search chooses its own",
    "version": "nothing: each search chooses its own",
    "metric_params": "nothing: no metric has any",
    "dist_type": "metric=",
    "distance": "metric=, and knn_graph takes mode='distance'",
    "seed": "generator=torch.Generator().manual_seed(seed), with sample=",
    "n_ctrs_used": "sample=",
}
_DOT = "'dot', the negative inner product: the largest product is nearest"
_SQUARES = "'euclidean', or 'sqeuclidean' for its square, which FAISS and hnswlib return"
_METRICS = {
    "l2": _SQUARES,
    "metric_l2": _SQUARES,
    "minkowski": "'euclidean'",
    "2": "'euclidean'",
    "euclid": "'euclidean'",
    "l2_squared": "'sqeuclidean'",
    "l2sqr": "'sqeuclidean'",
    "squared_euclidean": "'sqeuclidean'",
    "squared_l2": "'sqeuclidean'",
    **dict.fromkeys(("l1", "metric_l1", "1", "cityblock", "city_block", "taxicab"), "'manhattan'"),
    **dict.fromkeys(("linf", "l_inf", "metric_linf", "inf", "infinity", "chessboard", "maximum"), "'chebyshev'"),
    "ip": _DOT,
    "metric_inner_product": _DOT,
    "inner_product": _DOT,
    "innerproduct": _DOT,
    "inner": _DOT,
    "dot_product": _DOT,
    "dotproduct": _DOT,
    "angular": "'cosine'",
    "cos": "'cosine'",
    "cosine_similarity": "'cosine', which is 1 - similarity",
    "great_circle": "'haversine', of latitude and longitude in radians",
    "geodesic": "'haversine', of latitude and longitude in radians",
}


def check_metric(metric: object) -> None:
    """Check that metric is one of METRICS; where another name is known for one, say ours."""
    if isinstance(metric, str) and metric in METRICS:
        return
    plain = metric.strip().lower().replace("-", "_").replace(" ", "_") if isinstance(metric, str) else ""
    near = difflib.get_close_matches(plain, METRICS, n=1)
    ours = _METRICS.get(plain) or (repr(near[0]) if near else "")
    raise ValueError(
        f"metric must be one of {', '.join(map(repr, METRICS))}, got {metric!r}" + (f"; write {ours}" if ours else "")
    )


def explained(function: Callable[P, T]) -> Callable[P, T]:
    """Refuse options by which other libraries call ours with an error that names ours."""
    own = inspect.signature(function).parameters  # radius_graph has some of their names
    others = {name: ours for name, ours in _OPTIONS.items() if name not in own}

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> T:
        for name in options:
            if name in others:
                raise TypeError(f"{function.__name__}() has no argument {name!r}; write {others[name]}")
        return function(*args, **options)

    return call
