"""The table of metrics: a new one is a file beside this one, and a line here."""

from __future__ import annotations

from janelia_core.ml._knn.metrics.chebyshev import Chebyshev
from janelia_core.ml._knn.metrics.cosine import Cosine
from janelia_core.ml._knn.metrics.dot import Dot
from janelia_core.ml._knn.metrics.euclidean import Euclidean, SquaredEuclidean
from janelia_core.ml._knn.metrics.haversine import Chord, Haversine
from janelia_core.ml._knn.metrics.manhattan import Manhattan
from janelia_core.ml._knn.metrics.metric import Metric

METRICS: dict[str, type[Metric]] = {
    "euclidean": Euclidean,
    "sqeuclidean": SquaredEuclidean,
    "cosine": Cosine,
    "dot": Dot,
    "manhattan": Manhattan,
    "chebyshev": Chebyshev,
    "haversine": Haversine,
}

_OF_POINTS: dict[str, type[Metric]] = {"chord": Chord}
"""Those by which points are searched that another metric maps to (`mapped`); nobody asks for these by name."""


def metric_class(name: str) -> type[Metric]:
    """Return the metric of that name."""
    return METRICS.get(name) or _OF_POINTS[name]


def metric_named(name: str, exponent: int = 0, exact: bool = False) -> Metric:
    """Return a metric for one search: of values times 2^-exponent, which may be `exact` (`Frame`)."""
    metric = metric_class(name)
    return metric(exponent, exact and metric.exact_on_grids)
