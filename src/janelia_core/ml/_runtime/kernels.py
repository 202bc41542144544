"""Whether Numba's kernels serve in this process, decided here alone; where they do not, torch operations answer.

Numba is an accelerator. It may be absent, switched off, broken, or fail at the first function that it compiles for
this processor. Beforehand only its presence is asked, which costs nothing; the rest shows when kernels are used. Then
they are given up, for the whole process and with one warning, and the call that met with it is made again.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from janelia_core.ml._runtime.aside import say, warn

P = ParamSpec("P")
R = TypeVar("R")

_COMPILERS = ("numba", "llvmlite")
_given_up: dict[str, str] = {}  # "why": the reason; a dictionary for its atomic setdefault


class SwitchedOffError(ImportError):
    """The user wants no compiled code: nothing to warn of."""


def may_serve() -> bool:
    """Tell whether Numba is there and nothing has spoken against it yet; imports nothing.

    Whatever spoke against it where nobody listens is said here.
    """
    say(stacklevel=4)
    return not _given_up and _is_installed()


def are_given_up() -> bool:
    """Tell whether kernels have failed in this process."""
    return bool(_given_up)


def optional_kernels(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function that asks `may_serve` before it uses kernels begin again where they fail it."""

    @functools.wraps(function)
    def answered(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if not failed(error):
                raise
        return function(*args, **kwargs)

    return answered


def failed(error: Exception) -> bool:
    """Tell whether an exception is of kernels, which are given up then.

    Raises:
        KeyboardInterrupt: Ctrl-C made the compiler fail.
    """
    if isinstance(error, Warning) or not _is_of_kernels(error.__traceback__):
        return False
    if _was_interrupted(error):
        raise KeyboardInterrupt from error
    why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    give_up(why, isinstance(error, SwitchedOffError))
    return True


def give_up(why: str, silently: bool = False) -> None:
    """Use no kernels in this process from now on; the first to say so warns."""
    given = _given_up.setdefault("why", why)
    if given is why and not silently:
        warn(
            f"Compiled kernels cannot be used ({why}). Torch operations give the same answers, several times slower. "
            f"Install a numba that fits this Python and NumPy, or set NUMBA_DISABLE_JIT=1 to do without it.",
            stacklevel=5,
        )


@functools.cache
def _is_installed() -> bool:
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return False
    try:
        return importlib.util.find_spec("numba") is not None
    except (ImportError, ValueError):
        return False


def _was_interrupted(error: BaseException | None) -> bool:
    """Tell whether Ctrl-C made the compiler fail: it may turn into any other exception in there."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _is_of_kernels(traceback: TracebackType | None) -> bool:
    """Tell whether an exception came through the compiler's own code, or through a module of ours that wants to load.

    What a compiled function raises by itself comes through neither, and what a caller's function raises does not.
    """
    while traceback is not None:
        code, module = traceback.tb_frame.f_code, str(traceback.tb_frame.f_globals.get("__name__"))
        package = module.partition(".")[0]
        if package in _COMPILERS or (package == __package__.partition(".")[0] and code.co_name == "<module>"):
            return True
        traceback = traceback.tb_next
    return False
