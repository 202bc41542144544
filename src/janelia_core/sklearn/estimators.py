"""Estimators with scikit-learn's names and arguments: change the import, and answers are exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn import neighbors

from janelia_core.sklearn.searches import Searches


class NearestNeighbors(Searches, neighbors.NearestNeighbors):  # type: ignore[misc]
    """Nearest neighbours, exact: takes the place of scikit-learn's estimator of that name.

    Args:
        n_neighbors: How many neighbours `kneighbors` finds.
        radius: Within which `radius_neighbors` looks.
        algorithm, leaf_size: Of no effect: each search chooses its own way, and the answer is the same.
        metric: "minkowski" (with p), "euclidean" or "l2", "sqeuclidean", "manhattan", "l1" or "cityblock",
            "chebyshev" or "infinity", "cosine", "haversine"; and "dot", the negative inner product.
        p: 1, 2 or inf, for "minkowski".
        metric_params: None, or {"p": p}.
        n_jobs: Of no effect: searches use the threads of `torch.set_num_threads`.
        max_memory: Bytes of workspace of a search beyond inputs and results, at least a mebibyte; None: as for `knn`.

    Attributes:
        effective_metric_, n_samples_fit_, n_features_in_, feature_names_in_: As scikit-learn's.

    Exactness:
        Indices are the one right answer for the values that X stores, ties by lowest index (docs/exactness.md);
        distances are rounded once, to float64, whatever the dtype of X.

    Example:
        >>> nearest = NearestNeighbors(n_neighbors=2).fit([[0.0], [3.0], [1.0]])
        >>> nearest.kneighbors([[0.5]])
        (array([[0.5, 0.5]]), array([[0, 2]]))
    """

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        radius: float = 1.0,
        algorithm: str = "auto",
        leaf_size: int = 30,
        metric: str = "minkowski",
        p: float | None = 2,
        metric_params: Mapping[str, Any] | None = None,
        n_jobs: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        self._keep(locals())


class KNeighborsTransformer(Searches, neighbors.KNeighborsTransformer):  # type: ignore[misc]
    """The sparse graph of nearest neighbours, exact: takes the place of scikit-learn's transformer of that name.

    Args:
        mode: "distance": values are distances, and each row of fit has itself and n_neighbors others. "connectivity":
            values are 1, and the row is one of the n_neighbors.
        **others: As of `NearestNeighbors`.
    """

    def __init__(
        self,
        *,
        mode: str = "distance",
        n_neighbors: int = 5,
        algorithm: str = "auto",
        leaf_size: int = 30,
        metric: str = "minkowski",
        p: float | None = 2,
        metric_params: Mapping[str, Any] | None = None,
        n_jobs: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        self._keep(locals())


class RadiusNeighborsTransformer(Searches, neighbors.RadiusNeighborsTransformer):  # type: ignore[misc]
    """The sparse graph of all within a radius, exact: takes the place of scikit-learn's transformer of that name.

    Args:
        mode: "distance" or "connectivity": whether values are distances or 1.
        **others: As of `NearestNeighbors`.
    """

    def __init__(
        self,
        *,
        mode: str = "distance",
        radius: float = 1.0,
        algorithm: str = "auto",
        leaf_size: int = 30,
        metric: str = "minkowski",
        p: float | None = 2,
        metric_params: Mapping[str, Any] | None = None,
        n_jobs: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        self._keep(locals())
