"""A fork waits until no other thread loads or compiles kernels, so that the child can.

A child has only the thread that forked. A lock that another held is held in the child for ever: an import that had
begun, Numba's lock around the compiler, llvmlite's around LLVM. So whoever forks takes these locks first, as Python's
own modules do with theirs. Where that takes too long, the child goes without kernels.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from typing import Any

from janelia_core.ml._runtime.kernels import are_given_up, give_up
from janelia_core.ml._runtime.loading import begin_anew, go_on, hold

_PATIENCE = 60.0  # seconds; the longest compilation that was seen took 12
_PAUSE = 0.002
_LOCKS = {"numba.core.compiler_lock": "global_compiler_lock", "llvmlite.binding.ffi": "lib"}
_IMPORTED = (__name__.partition(".")[0], "numba", "llvmlite", "numpy", "torch")  # the latter also in parts, when used

_fork = threading.local()  # of each thread that forks: the locks it holds, and whether it lost patience


def _before() -> None:
    _fork.held, _fork.late = [], False
    end = time.monotonic() + _PATIENCE
    stands_still = hold(_PATIENCE)
    if are_given_up():
        return
    if not stands_still:
        _fork.late = True
        return
    while not (_take_locks(end) and not _is_loading()):
        _let_go()
        if time.monotonic() > end:
            _fork.late = True
            return
        time.sleep(_PAUSE)


def _take_locks(end: float) -> bool:
    for lock in filter(None, map(_lock, _LOCKS)):
        if not lock.acquire(timeout=max(0.0, end - time.monotonic())):
            return False
        _fork.held.append(lock)
    return True


def _lock(module: str) -> Any:
    """Return the lock that Numba or llvmlite wraps, or None where that is not loaded or wraps none."""
    holder = getattr(sys.modules.get(module), _LOCKS[module], None)
    lock = getattr(holder, "_lock", None)
    return getattr(lock, "_lock", lock)


def _is_loading() -> bool:
    """Tell whether another thread is about to import kernels or something that a search may need."""
    bootstrap: Any = importlib._bootstrap
    for name, reference in list(getattr(bootstrap, "_module_locks", {}).items()):
        owner = getattr(reference(), "owner", None)
        if owner not in (None, threading.get_ident()) and name.partition(".")[0] in _IMPORTED:
            return True
    return False


def _let_go() -> None:
    while _fork.held:
        _fork.held.pop().release()


def _after_in_parent() -> None:
    _let_go()
    go_on()


def _after_in_child() -> None:
    _let_go()
    begin_anew()
    if _fork.late:
        give_up("the process was forked while another thread compiled them", silently=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
