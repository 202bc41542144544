"""Nearest centres: an exact, differentiable search, its graphs, and what a search would do and did."""

from __future__ import annotations

from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import Report, watch_knn
from janelia_core.ml._neighbors.call import knn
from janelia_core.ml._neighbors.found import Neighbors
from janelia_core.ml._neighbors.graph import knn_graph

__all__ = ["Neighbors", "Plan", "Report", "knn", "knn_graph", "watch_knn"]
