"""Kernels come into memory beside the calls that want them; torch operations answer meanwhile.

A kernel is loaded by Numba when it is first called with arguments of some types: from disk in some hundredths of a
second, compiled in one to five. So whoever wants kernels says what for (a *use*), and how to bring them: a *rehearsal*,
which does the same work on a few numbers. One thread rehearses use after use and ends when there is nothing left; what
is not on disk is first compiled by a process of its own (`apart`), if the rehearsal can be sent there. Only what has
one right answer may be asked so: which of two ways answers first is chance.

    are_ready       tells at once, or after some patience; what is not ready begins to load, at once or after a delay
    begin           ends all delays
    is_compiling    for whoever shows progress
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
from collections.abc import Callable, Hashable, Iterator

from janelia_core.ml._runtime.apart import VARIABLE, Apart, leave
from janelia_core.ml._runtime.aside import keep_warnings
from janelia_core.ml._runtime.kernels import are_given_up, failed
from janelia_core.ml._runtime.team import alone

Rehearsal = Callable[[], object]

_WAITS = "wait"
_YIELD = 1e-4  # seconds in which a thread that waits for the compiler gets its turn
_POLL = 0.05  # seconds between two looks at the process that compiles

_ready: set[Hashable] = set()
_compiling: set[int] = set()  # threads
_this_thread = threading.local()


class _InterruptedError(BaseException):
    """The process ends, or is about to fork."""


class _LeftError(BaseException):
    """What a rehearsal wants is compiled apart."""


class _Loader:
    """The thread, and what it has to do."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._asked: dict[Hashable, Rehearsal] = {}  # the first comes first
        self._begins: dict[Hashable, float] = {}  # of those, which not before a moment, or not all of it
        self._apart = Apart()
        self._now: Hashable = None
        self._thread: threading.Thread | None = None
        self._last: threading.Thread | None = None  # that had nothing more to do
        self._ends, self._holds, self._still, self._compiles = False, 0, True, False

    def ask(self, use: Hashable, rehearse: Rehearsal, delay: float) -> None:
        """Have a use rehearsed, once, and not before some seconds have gone or `begin` is called."""
        with self._turn:
            if self._ends or use in _ready or use in self._asked:
                return
            self._asked[use] = rehearse
            if delay:
                self._begins[use] = time.monotonic() + delay
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="janelia-core kernels", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread is to be had: as long as that is so, torch answers
                    self._asked.clear()
                    self._begins.clear()
                    return
                self._thread, self._still = thread, False
            self._turn.notify_all()

    def await_(self, use: Hashable, patience: float) -> bool:
        """Wait until a use is ready, or something turns out to need compiling first; return whether it is."""
        with self._turn:
            if self._begins:
                self._begins.clear()
                self._turn.notify_all()
            self._turn.wait_for(
                lambda: use in _ready or self._compiles or use in self._apart or self._thread is None, patience
            )
        return use in _ready

    def is_next(self, use: Hashable) -> bool:
        """Tell whether a use is being loaded from disk, or about to be."""
        return use in self._asked and use not in self._begins and use not in self._apart

    def enough(self, rest: float) -> None:
        """Say that what is loaded of a use serves, and put off the rest; called in the loader's thread."""
        with self._turn:
            use = self._now
            _ready.add(use)
            self._begins[use] = time.monotonic() + rest
            self._turn.notify_all()
            self._turn.wait_for(lambda: use not in self._begins or self._ends or self._holds > 0, rest)
            self._begins.pop(use, None)
        self.interrupt_if_asked()

    def begin(self) -> None:
        """Begin with what was to be put off."""
        if self._begins:
            with self._turn:
                self._begins.clear()
                self._turn.notify_all()

    def compiles(self) -> None:
        """Say that a function is not on disk.

        Raises:
            _LeftError: It is compiled apart.
        """
        with self._turn:
            taken = self._now in self._asked and self._apart.takes(self._now, self._asked[self._now], missing=True)
            self._compiles = not taken
            self._turn.notify_all()
        if taken:
            raise _LeftError

    def is_compiling(self) -> bool:
        """Tell whether a process compiles for this one."""
        return bool(self._apart)

    def interrupt_if_asked(self) -> None:
        """Leave a rehearsal where the process ends, or is about to fork; called in the loader's thread."""
        if self._ends or self._holds:
            raise _InterruptedError

    def hold(self, patience: float) -> bool:
        """Let the thread stand still between two functions, until `go_on`; return whether it does."""
        with self._turn:
            self._holds += 1
            return self._turn.wait_for(lambda: self._still, patience)

    def go_on(self) -> None:
        """Let it go on."""
        with self._turn:
            self._holds -= 1
            self._turn.notify_all()

    def end(self) -> None:
        """Rehearse nothing more, and return when nothing runs; what is compiled apart goes on."""
        with self._turn:
            self._ends, thread = True, self._thread or self._last
            self._turn.notify_all()
        if thread is not None:
            thread.join()

    def forget(self) -> None:
        """Let go of what a forked child has of this."""
        leave(self._apart.close(), wait=False)

    def _work(self) -> None:
        _this_thread.loads = True
        keep_warnings()
        alone()  # threads of torch's would wait for each other where the processor has other work
        try:
            self._rehearse_all()
        except BaseException:  # whatever that is, nobody waits for a thread that has ended
            with self._turn:
                self._asked.clear()
                self._thread, self._still = None, True
                self._turn.notify_all()
            raise

    def _rehearse_all(self) -> None:
        while (asked := self._next()) is not None:
            use, rehearse = asked
            try:
                rehearse()
            except (_InterruptedError, _LeftError):
                continue  # once more after a fork, or when it is compiled; what was loaded by then is there
            except Exception as error:  # what a rehearsal cannot load, the call that wants it loads
                failed(error)
            finally:
                compiled()  # whatever was about to be
            with self._turn:
                _ready.add(use)
                self._asked.pop(use, None)  # Ctrl-C may have let a second thread begin
                self._compiles = False
                self._turn.notify_all()

    def _next(self) -> tuple[Hashable, Rehearsal] | None:
        """Return what can be rehearsed now, as soon as there is something; None at the end."""
        with self._turn:
            self._still = True
            while True:
                self._turn.notify_all()
                self._turn.wait_for(lambda: self._ends or not self._holds)
                self._apart.look()
                for use, rehearse in self._asked.items():
                    if not self._ends and time.monotonic() < self._begins.get(use, 0.0):
                        continue
                    if use not in self._apart and not self._apart.takes(use, rehearse) and not self._ends:
                        self._still, self._now = False, use
                        return use, rehearse
                if self._ends or not self._asked:
                    self._apart.look(hurry=self._ends)
                    idle, compiler = not self._apart, self._apart.close()
                    self._thread, self._last = None, self._thread
                    break
                self._turn.notify_all()
                self._turn.wait(_POLL)
        leave(compiler, wait=idle)
        return None


_loader = _Loader()


def are_ready(use: Hashable, rehearse: Rehearsal, patience: float = 0.0, delay: float = 0.0) -> bool:
    """Tell whether kernels may be called; if not, they begin to load.

    Args:
        use: What for: names all that decides which kernels are called with which types.
        rehearse: Does the same on a few numbers; is called in another thread.
        patience: Seconds to wait for kernels that may be on disk; after a delay only if they are being loaded already.
        delay: Seconds in which nothing is loaded for this use, unless somebody waits for kernels or calls `begin`:
            whoever imports holds Python's lock, which a search by torch operations wants after each of them.
    """
    if use in _ready or must_wait():
        return not are_given_up()  # a call that met with that beside it goes on as it is
    begun = not delay or _loader.is_next(use)
    _loader.ask(use, rehearse, delay)
    return patience > 0.0 and begun and _loader.await_(use, patience)


def enough(rest: float) -> None:
    """Say, in a rehearsal, that searches can do with what is loaded by now; what follows waits for them.

    Args:
        rest: Seconds in which nothing is loaded, unless `begin` is called.
    """
    if getattr(_this_thread, "loads", False):
        _loader.enough(rest)


def begin() -> None:
    """Begin to load what was to be put off: nobody is disturbed any more."""
    _loader.begin()


def must_wait() -> bool:
    """Tell whether a call in this thread loads the kernels it wants before it goes on."""
    if getattr(_this_thread, "loads", False) or getattr(_this_thread, "waits", 0):
        return True
    return os.environ.get(VARIABLE) == _WAITS


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Load in the calling thread what calls in it want, as long as the block lasts."""
    _this_thread.waits = getattr(_this_thread, "waits", 0) + 1
    try:
        yield
    finally:
        _this_thread.waits -= 1


def before_function() -> None:
    """Stand between two functions that are loaded one into the other: the place to leave a rehearsal."""
    if getattr(_this_thread, "loads", False):
        _loader.interrupt_if_asked()


def is_compiling() -> bool:
    """Tell whether kernels are compiled, by some thread of this process or for it."""
    return bool(_compiling) or _loader.is_compiling()


def compiled() -> None:
    """Say that this thread compiles no more, if it did."""
    _compiling.discard(threading.get_ident())


def compiles() -> None:
    """Say that a function is about to be compiled."""
    _compiling.add(threading.get_ident())
    if getattr(_this_thread, "loads", False):
        _loader.compiles()


def before_kernel() -> None:
    """Stand between two kernels, no lock held: another thread that wants to compile may have its turn."""
    if getattr(_this_thread, "loads", False):
        _loader.interrupt_if_asked()
        time.sleep(_YIELD)


def hold(patience: float) -> bool:
    """Let loading stand still, until `go_on`; return whether it does."""
    return getattr(_this_thread, "loads", False) or _loader.hold(patience)


def go_on() -> None:
    """Let loading go on."""
    if not getattr(_this_thread, "loads", False):
        _loader.go_on()


def begin_anew() -> None:
    """Forget the thread, which a forked child does not have, and what it had not finished."""
    global _loader
    _loader.forget()
    _loader = _Loader()
    _compiling.clear()
    _this_thread.loads = False


atexit.register(lambda: _loader.end())
