"""Numba compilation as this package wants it: without the GIL, kept on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

from janelia_core.ml._runtime.aside import warn
from janelia_core.ml._runtime.kernels import SwitchedOffError
from janelia_core.ml._runtime.loading import before_kernel, compiled, compiles

Function = TypeVar("Function", bound=Callable[..., Any])

_warned: list[str] = []


def jit(function: Function) -> Function:
    """Compile with an on-disk cache, or without one where there can be none."""
    return jit_with()(function)


def jit_with(**options: Any) -> Callable[[Function], Function]:
    """Compile as `jit`, with further options of `numba.njit`."""
    return lambda function: _compiled(function, options)


def inlined(function: Function) -> Function:
    """Compile as `jit`, into whoever calls it: a call would count references to the arrays that it is given."""
    return jit_with(forceinline=True)(function)


def _compiled(function: Any, options: dict[str, Any]) -> Any:
    config: Any = numba.config
    if config.DISABLE_JIT:
        raise SwitchedOffError("Numba's compilation is switched off")
    njit: Callable[..., Any] = numba.njit
    dispatcher, kept = njit(nogil=True, **options)(function), True
    try:
        from janelia_core.ml._runtime.kernel_cache import Cache

        dispatcher._cache = Cache(function, _warn_once)
    except Exception as error:  # no folder, or another Numba: whatever it is, compilation can do without
        _warn_once(error)
        kept = False
    compile_for = dispatcher._compile_for_args

    def compile_in_turn(*args: Any, **kwargs: Any) -> Any:
        before_kernel()
        if not kept:
            compiles()
        try:
            return compile_for(*args, **kwargs)
        finally:
            compiled()

    dispatcher._compile_for_args = compile_in_turn  # which Numba looks up when it meets new types
    return dispatcher


def are_kept() -> bool:
    """Tell whether all that was compiled could be written to disk."""
    return not _warned


def _warn_once(error: Exception) -> None:
    _warned.append(str(error))
    if len(_warned) == 1:
        warn(
            f"Compiled kernels cannot be kept on disk ({type(error).__name__}: {error}), so every process compiles "
            "them anew, which takes seconds. Set NUMBA_CACHE_DIR to a folder that can be written and has room.",
            stacklevel=2,
        )
