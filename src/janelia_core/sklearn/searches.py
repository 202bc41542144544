"""Fit, neighbours and graphs: what the three estimators share."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from sklearn import get_config, neighbors
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from janelia_core.ml.index import CenterIndex
from janelia_core.sklearn.checked import checked_points, in_kind, in_rows
from janelia_core.sklearn.metrics import effective_metric


class Searches:
    """An estimator over a `CenterIndex`: it stands before the class of scikit-learn that it takes the place of."""

    _parameter_constraints: ClassVar = {  # names that an estimator hasn't are passed over; the metric is ours to check
        **neighbors.RadiusNeighborsTransformer._parameter_constraints,
        **neighbors.KNeighborsTransformer._parameter_constraints,
        "metric": "no_validation",
    }
    _fit_method, _tree = "brute", None  # and _fit_X: what scikit-learn asks where it is given a fitted estimator as X

    def _keep(self, arguments: dict[str, Any]) -> None:
        self.__dict__.update({name: value for name, value in arguments.items() if name != "self"})

    @property
    def _fit_X(self: Any) -> Any:
        return in_kind(self._index.ctrs)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.sparse = False
        return tags

    def fit(self: Any, X: Any, y: object = None) -> Any:
        """Keep X (n_samples, n_features), an array, data frame or tensor, to search neighbours in; y is not used."""
        self._validate_params()
        self.effective_metric_, metric = effective_metric(self.metric, self.p, self.metric_params)
        self.effective_metric_params_: dict[str, Any] = {}
        self._index = CenterIndex(checked_points(self, X, fits=True), metric=metric)
        self._tensors = isinstance(X, Tensor)
        self.n_samples_fit_ = self._n_features_out = len(self._index)
        return self

    def kneighbors(self: Any, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """Find the nearest neighbours of each row of X: nearest first, the lowest index first where distances tie.

        Args:
            X: (n_queries, n_features). None: the rows of fit, of which none is its own neighbour; copies of it are.
            n_neighbors: How many; None: as many as the estimator says.
            return_distance: Whether to return distances, too.

        Returns:
            Distances (n_queries, n_neighbors), float64, and indices, int64; or indices alone. Tensors where X is one.
        """
        found = self._nearest(X, n_neighbors)
        tensors = self._tensors if X is None else isinstance(X, Tensor)
        indices = in_kind(found.indices, tensors)
        return (in_kind(found.distances, tensors), indices) if return_distance else indices

    def kneighbors_graph(self: Any, X: Any = None, n_neighbors: int | None = None, mode: str = "connectivity") -> Any:
        """Return `kneighbors` as a sparse CSR matrix of SciPy, (n_queries, n_samples_fit), each row nearest first.

        Its values are 1, or distances with mode "distance".
        """
        return self._graph(mode, self._nearest, X, n_neighbors)

    def radius_neighbors(
        self: Any, X: Any = None, radius: Any = None, return_distance: bool = True, sort_results: bool = False
    ) -> Any:
        """Find the neighbours of each row of X within a radius, those at that very distance included.

        Args:
            X: As for `kneighbors`.
            radius: One number, or one for each row; None: what the estimator says. It is compared without rounding.
            return_distance: Whether to return distances, too.
            sort_results: Each row nearest first; else by index.

        Returns:
            Distances (n_queries,), an array of arrays (of float64), and indices (of int64) likewise; or indices alone.
            Tuples of tensors where X is a tensor.
        """
        if sort_results and not return_distance:
            raise ValueError("return_distance must be True if sort_results is True.")
        found = self._within(X, radius, sort_results)
        tensors = self._tensors if X is None else isinstance(X, Tensor)
        indices = in_rows(found.indices, found.offsets, tensors)
        return (in_rows(found.distances, found.offsets, tensors), indices) if return_distance else indices

    def radius_neighbors_graph(
        self: Any, X: Any = None, radius: Any = None, mode: str = "connectivity", sort_results: bool = False
    ) -> Any:
        """Return `radius_neighbors` as a sparse CSR matrix of SciPy, (n_queries, n_samples_fit).

        Its values are 1, or distances with mode "distance"; then sort_results puts each row nearest first.
        """
        return self._graph(mode, self._within, X, radius, sort_results and mode == "distance")

    def _nearest(self: Any, X: Any, n_neighbors: int | None) -> Any:
        check_is_fitted(self)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        if not isinstance(k, Integral):
            raise TypeError(f"n_neighbors does not take {type(k)} value, enter integer value")
        if k <= 0:
            raise ValueError(f"Expected n_neighbors > 0. Got {k}")
        rows = None if X is None else checked_points(self, X, fits=False)
        there = self.n_samples_fit_
        if k + (rows is None) > there:
            asked = f"n_neighbors = {k}, n_samples_fit = {there}, n_samples = {there if rows is None else len(rows)}"
            raise ValueError(f"Expected n_neighbors {'<' if rows is None else '<='} n_samples_fit, but {asked}")
        return self._index.knn(rows, int(k), max_memory=self.max_memory)

    def _within(self: Any, X: Any, radius: Any, sort: bool) -> Any:
        check_is_fitted(self)
        rows = None if X is None else checked_points(self, X, fits=False)
        radius = self.radius if radius is None else radius
        if radius is None:
            raise TypeError("radius must be a number, or one for each row: the estimator has None, give it one")
        r = float(radius) if np.ndim(radius) == 0 else torch.as_tensor(radius, device=self._index.ctrs.device)
        return self._index.radius(rows, r, sort_by="distance" if sort else "index", max_memory=self.max_memory)

    def _graph(self: Any, mode: str, search: Callable[..., Any], *asked: Any) -> Any:
        if mode not in ("connectivity", "distance"):
            raise ValueError(f'Unsupported mode, must be one of "connectivity", or "distance" but got "{mode}" instead')
        found = search(*asked)
        columns, n, k = in_kind(found.indices.reshape(-1)), len(found.indices), found.indices.shape[-1]
        starts = np.arange(0, n * k + 1, k) if found.indices.ndim == 2 else in_kind(found.offsets)
        values = in_kind(found.distances.reshape(-1)) if mode == "distance" else np.ones(len(columns))
        kind = get_config().get("sparse_interface")  # since 1.9: arrays or, by default, matrices of 64-bit indices
        form = sparse.csr_array if kind else sparse.csr_matrix
        graph = form((values, columns, starts), shape=(len(starts) - 1, self.n_samples_fit_))
        return sparse.csr_matrix(graph) if kind == "spmatrix" else graph
