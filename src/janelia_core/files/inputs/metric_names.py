"""Metrics by the names that people and files use for them, and which one is meant."""

from __future__ import annotations

from janelia_core.files.formats.contract import VectorFile
from janelia_core.ml._knn.metrics.registry import METRICS

ALIASES = {
    "l2": "euclidean",
    "ip": "dot",
    "mips": "dot",
    "inner_product": "dot",
    "angular": "cosine",
    "l1": "manhattan",
    "cityblock": "manhattan",
    "linf": "chebyshev",
}


def metric_of(name: str) -> str:
    """Return our name of a metric.

    Raises:
        ValueError: Nobody calls one so.
    """
    found = ALIASES.get(name.lower(), name.lower())
    if found not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)} (or {', '.join(ALIASES)}), got {name!r}")
    return found


def meant_metric(asked: str | None, centres: VectorFile) -> str:
    """Return the metric asked for, else the one that the file of centres says, else Euclidean distance."""
    return metric_of(asked) if asked is not None else centres.metric or "euclidean"
