"""Kept centres: build once, ask often."""

from __future__ import annotations

from janelia_core.ml._index.center_index import CenterIndex
from janelia_core.ml._index.stored.errors import IndexFileError

__all__ = ["CenterIndex", "IndexFileError"]
