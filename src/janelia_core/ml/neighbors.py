"""Nearest centres: an exact, differentiable search, its graphs, and what a search would do and did."""

from __future__ import annotations

from janelia_core.ml._knn.plan import Plan
from janelia_core.ml._knn.report import Report, watch_knn
from janelia_core.ml._neighbors.call import Neighbors, knn

__all__ = ["Neighbors", "Plan", "Report", "knn", "watch_knn"]
