"""Nearest centres: what a search would do, and what it did."""

from __future__ import annotations

from janelia_core.ml._knn.plan import Plan
from janelia_core.ml._knn.report import Report, watch_knn

__all__ = ["Plan", "Report", "watch_knn"]
