"""Why values do not suit a screen, as several of them say it; nothing, where they do."""

from __future__ import annotations

from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.screens.contract import Asked

EXTREME = "values are of extreme magnitude"
MASKED = "the compiled screens take no masks"


def why_not_moderate(asked: Asked, who: str, forms: tuple[int, ...] = (DISTANCE,)) -> str:
    """Return why float32 distances do not serve: `who` wants them of finite rows, without a mask."""
    frame = asked.frame
    if asked.mask is not None:
        return MASKED
    if not frame.in_float64:
        return EXTREME
    if not (asked.plan.problem.form in forms and frame.x_finite and frame.fits_float32):
        return f"{who} distances, finite rows and moderate magnitudes"
    return ""


def finite_ctrs(asked: Asked) -> int:
    """Return how many centres are finite."""
    return len(asked.centres.finite(Reader(asked.workers, asked.plan.kernels)))


def why_not_finite(asked: Asked) -> str:
    """Return why the finite centres do not serve."""
    return "fewer than k centres are finite" if finite_ctrs(asked) < asked.plan.k else ""
