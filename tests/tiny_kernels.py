"""Kernels that are compiled in no time, and rehearsals of them that another process finds by name."""

from __future__ import annotations

from janelia_core.ml._runtime import loading
from janelia_core.ml._runtime.jit import inlined, jit


@jit
def twice(number: float) -> float:
    return number + number


@inlined
def half(number: float) -> float:
    return 0.5 * number


@jit
def quarter(number: float) -> float:
    return half(half(number))


def rehearse() -> None:
    """Load what this module has; it imports what kernels of screens do, so that both processes must agree of it."""
    assert loading.must_wait()
    assert twice(1.5) == 3.0
