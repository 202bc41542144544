"""Nearest centres, and all within a radius: exact, differentiable searches, their graphs, and what a search did."""

from __future__ import annotations

from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import Report, watch_knn
from janelia_core.ml._neighbors.call import knn
from janelia_core.ml._neighbors.found import Neighbors
from janelia_core.ml._neighbors.graph import knn_graph
from janelia_core.ml._neighbors.radius.call import radius, radius_count
from janelia_core.ml._neighbors.radius.found import RadiusNeighbors
from janelia_core.ml._neighbors.radius.graph import radius_graph

__all__ = [
    "Neighbors",
    "Plan",
    "RadiusNeighbors",
    "Report",
    "knn",
    "knn_graph",
    "radius",
    "radius_count",
    "radius_graph",
    "watch_knn",
]
