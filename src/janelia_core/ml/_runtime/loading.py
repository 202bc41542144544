"""Kernels come into memory beside the calls that want them; torch operations answer meanwhile.

A kernel is loaded by Numba when it is first called with arguments of some types: from disk in some hundredths of a
second, compiled in one to five. So whoever wants kernels says what for (a *use*), and how to bring them: a *rehearsal*,
which does the same work on a few numbers. One thread rehearses use after use and ends when there is nothing left; what
is not on disk is first compiled by a process of its own (`apart`), if the rehearsal can be sent there. Only what has
one right answer may be asked so: which of two ways answers first is chance.

    are_ready       tells at once, or after some patience; what is not ready begins to load, at once or after a delay
    begin           ends all delays
    is_compiling    for whoever shows progress
    is_compiling_apart      for whoever would leave a processor to that
    waiting         in this thread, calls load what they want, however long that takes
    JANELIA_CORE_KERNELS=wait       so do all calls of the process
    JANELIA_CORE_KERNELS=thread     no process is started: that thread compiles

Whoever forks waits until that thread stands still between two functions, and the child has its own (`forks`). At the
end of the process the thread ends first: with the function that is being compiled at the latest.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Hashable, Iterator

from janelia_core.ml._runtime.apart import VARIABLE
from janelia_core.ml._runtime.kernels import are_given_up
from janelia_core.ml._runtime.loader import Loader, Rehearsal, compiling, this_thread
from janelia_core.ml._runtime.loader import compiled as compiled

QUIET = 1.0
"""Seconds in which nothing is loaded beside a first search, unless it ends before."""
_WAITS = "wait"
_YIELD = 1e-4  # seconds in which a thread that waits for the compiler gets its turn

_loader = Loader()


def are_ready(use: Hashable, rehearse: Rehearsal, patience: float = 0.0, delay: float = 0.0) -> bool:
    """Tell whether kernels may be called; if not, they begin to load.

    Args:
        use: What for: names all that decides which kernels are called with which types.
        rehearse: Does the same on a few numbers; is called in another thread.
        patience: Seconds to wait for kernels that may be on disk; after a delay only if they are being loaded already.
        delay: Seconds in which nothing is loaded for this use, unless somebody waits for kernels or calls `begin`:
            whoever imports holds Python's lock, which a search by torch operations wants after each of them.
    """
    if use in _loader.ready or must_wait():
        return not are_given_up()  # a call that met with that beside it goes on as it is
    begun = not delay or _loader.is_next(use)
    _loader.ask(use, rehearse, delay)
    return patience > 0.0 and begun and _loader.await_(use, patience)


def enough(rest: float) -> None:
    """Say, in a rehearsal, that searches can do with what is loaded by now; what follows waits for them.

    Args:
        rest: Seconds in which nothing is loaded, unless `begin` is called.
    """
    if getattr(this_thread, "loads", False):
        _loader.enough(rest)


def begin() -> None:
    """Begin to load what was to be put off: nobody is disturbed any more."""
    _loader.begin()


def must_wait() -> bool:
    """Tell whether a call in this thread loads the kernels it wants before it goes on."""
    if getattr(this_thread, "loads", False) or getattr(this_thread, "waits", 0):
        return True
    return os.environ.get(VARIABLE) == _WAITS


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Load in the calling thread what calls in it want, as long as the block lasts."""
    this_thread.waits = getattr(this_thread, "waits", 0) + 1
    try:
        yield
    finally:
        this_thread.waits -= 1


def before_function() -> None:
    """Stand between two functions that are loaded one into the other: the place to leave a rehearsal."""
    if getattr(this_thread, "loads", False):
        _loader.interrupt_if_asked()


def is_compiling() -> bool:
    """Tell whether kernels are compiled, by some thread of this process or for it."""
    return bool(compiling) or _loader.is_compiling()


def is_compiling_apart() -> bool:
    """Tell whether a process that this one started takes a processor to compile kernels, now."""
    return _loader.is_compiling_apart()


def compiles() -> None:
    """Say that a function is about to be compiled."""
    compiling.add(threading.get_ident())
    if getattr(this_thread, "loads", False):
        _loader.compiles()


def before_kernel() -> None:
    """Stand between two kernels, no lock held: another thread that wants to compile may have its turn."""
    if getattr(this_thread, "loads", False):
        _loader.interrupt_if_asked()
        time.sleep(_YIELD)


def hold(patience: float) -> bool:
    """Let loading stand still, until `go_on`; return whether it does."""
    return getattr(this_thread, "loads", False) or _loader.hold(patience)


def go_on() -> None:
    """Let loading go on."""
    if not getattr(this_thread, "loads", False):
        _loader.go_on()


def begin_anew() -> None:
    """Forget the thread, which a forked child does not have, and what it had not finished."""
    global _loader
    _loader.forget()
    _loader = Loader(_loader.ready)
    compiling.clear()
    this_thread.loads = False


atexit.register(lambda: _loader.end())
