"""scikit-learn's names of metrics, and which of ours each is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

_SAME = ("euclidean", "sqeuclidean", "manhattan", "chebyshev", "cosine", "haversine", "dot")
_OTHERS = {"l2": "euclidean", "l1": "manhattan", "cityblock": "manhattan", "infinity": "chebyshev"}
_OURS = {**{name: name for name in _SAME}, **_OTHERS}
_MINKOWSKI = {1: "manhattan", 2: "euclidean", math.inf: "chebyshev"}


def effective_metric(metric: object, p: float | None, params: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the metric as scikit-learn calls it once p is known, and what it is called here.

    params may hold a p, before which the other one does not count, and nothing else. ValueError: nothing here orders by
    that metric.
    """
    others = {name: value for name, value in (params or {}).items() if value is not None}
    if "p" in others and metric == "minkowski":
        if p is not None:
            told = "Parameter p is found in metric_params. The corresponding parameter from __init__ is ignored."
            warnings.warn(told, SyntaxWarning, stacklevel=4)
        p = others.pop("p")
    if others:
        got = ", ".join(map(repr, others))
        raise ValueError(
            f"metric_params may hold p alone, for 'minkowski', got {got}; scale the columns of X for weights"
        )
    if metric == "minkowski":
        if p not in _MINKOWSKI:
            raise ValueError(f"metric='minkowski' serves with p = 1, 2 or inf, got p={p!r}")
        return _MINKOWSKI[p], _MINKOWSKI[p]
    if not isinstance(metric, str) or metric not in _OURS:
        known = ", ".join(map(repr, ("minkowski", *_OURS)))
        raise ValueError(f"metric must be one of {known}, got {metric!r}; sklearn.neighbors serves any other")
    return metric, _OURS[metric]
