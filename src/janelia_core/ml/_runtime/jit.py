"""Numba compilation as this package wants it: without the GIL, cached on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def jit(function: Function) -> Function:
    """Compile with an on-disk cache, or without one where no cache folder can be written."""
    return jit_with()(function)


def jit_with(**options: Any) -> Callable[[Function], Function]:
    """Compile as `jit`, with further options of `numba.njit`."""
    return lambda function: _compiled(function, options)


def _compiled(function: Any, options: dict[str, Any]) -> Any:
    njit: Callable[..., Any] = numba.njit
    try:
        return njit(function, cache=True, nogil=True, **options)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return njit(function, nogil=True, **options)
