"""Kernels that are compiled in no time, and rehearsals of them that another process finds by name."""

from __future__ import annotations

import numba

from janelia_core.ml._runtime.jit import jit


@jit
def twice(number: float) -> float:
    return number + number


def rehearse() -> None:
    assert twice(1.5) == 3.0


def are_compiled() -> bool:
    """Tell whether this process has compiled something by itself."""
    stats = twice.stats  # type: ignore[attr-defined]
    return bool(stats.cache_misses) or not numba.config.CACHE_DIR
