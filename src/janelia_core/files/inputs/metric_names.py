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


def notes_on_metric(asked: str | None, *files: VectorFile) -> tuple[str, ...]:
    """Say which files speak of another metric than the one that is searched by."""
    meant = meant_metric(asked, files[0])
    return tuple(
        f"{file.path} says that its metric is {file.metric}, but {meant} was {'asked for' if asked else 'taken'}"
        for file in {file.path: file for file in files}.values()
        if file.metric is not None and _ROOTED.get(file.metric, file.metric) != _ROOTED.get(meant, meant)
    )


_ROOTED = {"sqeuclidean": "euclidean"}
"""Metrics that have the neighbours of another one."""


def meant_metric(asked: str | None, centres: VectorFile) -> str:
    """Return the metric asked for, else the one that the file of centres says, else Euclidean distance."""
    return metric_of(asked) if asked is not None else centres.metric or "euclidean"
