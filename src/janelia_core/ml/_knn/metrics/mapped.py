"""Metrics that map points before the search: what is searched is the points that stored values stand for.

Whoever searches asks here once, before anything is done with the values, and goes on with the points and their metric:
no stage below knows of the map.
"""

from __future__ import annotations

from torch import Tensor

from janelia_core.ml._knn.metrics.registry import metric_class


def searched_by(metric: str) -> str:
    """Return the metric by which the points of a metric are searched: it itself, if it does not map any."""
    return metric_class(metric).mapped_to or metric


def bytes_of_point(metric: str) -> int:
    """Return how many bytes a mapped point takes; 0 if the metric does not map any."""
    return metric_class(metric).mapped_bytes


def points_of(metric: str, values: Tensor, name: str = "ctrs") -> Tensor:
    """Return the points that stored values (n, d) stand for: these themselves, if the metric does not map any."""
    known = metric_class(metric)
    if not known.mapped_to:
        return values
    check_columns(metric, values.shape[1], name)
    return known.mapped(values)


def both_points(metric: str, x: Tensor, ctrs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the points of rows and of centres, one tensor if these are one."""
    points = points_of(metric, x, "x")
    return points, points if ctrs is x else points_of(metric, ctrs)


def check_columns(metric: str, d: int, name: str) -> None:
    """Check that what is called name has as many columns as the metric knows the meaning of."""
    columns = metric_class(metric).columns
    if columns and d != len(columns):
        named = " and ".join(columns)
        raise ValueError(f"{name} must have {len(columns)} columns for metric={metric!r}, {named}, got {d}")
