"""Metrics of differences as kernels are told of them; for those who have loaded kernels."""

from __future__ import annotations

from janelia_core.ml._knn.metrics.metric import CHEBYSHEV, DISTANCE, MANHATTAN
from janelia_core.ml._simd.gaps import Largest, Sizes, Squares, Way

WAYS: dict[int, Way] = {DISTANCE: Squares(), MANHATTAN: Sizes(), CHEBYSHEV: Largest()}
"""How the gaps between coordinates make an order value, by `Metric.form`."""
