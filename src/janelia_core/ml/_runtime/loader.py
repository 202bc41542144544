"""The thread that brings kernels into memory: whoever wants some asks it by `loading`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from janelia_core.ml._runtime.apart import Apart, leave
from janelia_core.ml._runtime.aside import keep_warnings
from janelia_core.ml._runtime.kernels import failed
from janelia_core.ml._runtime.team import alone, keep_own_count

Rehearsal = Callable[[], object]

POLL = 0.05  # seconds between two looks at the process that compiles

compiling: set[int] = set()
"""Threads that compile."""
this_thread = threading.local()
"""Says whether it is the loader's, and in how many blocks calls of it wait for kernels."""


class InterruptedLoadError(BaseException):
    """The process ends, or is about to fork."""


class LeftError(BaseException):
    """What a rehearsal wants is compiled apart."""


class Loader:
    """The thread, and what it has to do.

    Args:
        ready: Uses whose kernels are in memory already.

    Attributes:
        ready: Likewise, now.
    """

    def __init__(self, ready: set[Hashable] | None = None) -> None:
        self.ready = set() if ready is None else ready
        self._turn = threading.Condition()
        self._asked: dict[Hashable, Rehearsal] = {}  # what was wanted last stands last, and comes first
        self._begins: dict[Hashable, float] = {}  # of those, which not before a moment, or not all of it
        self._apart = Apart()
        self._now: Hashable = None
        self._thread: threading.Thread | None = None
        self._last: threading.Thread | None = None  # that had nothing more to do
        self._ends, self._holds, self._still, self._compiles = False, 0, True, False

    def ask(self, use: Hashable, rehearse: Rehearsal, delay: float) -> None:
        """Have a use rehearsed, once, and not before some seconds have gone or `begin` is called."""
        with self._turn:
            if self._ends or use in self.ready:
                return
            if use in self._asked:  # and wanted again
                self._asked[use] = self._asked.pop(use)
                self._apart.wants(use)
                return
            keep_own_count()
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
            if self._begins and use not in self.ready:
                self._begins.clear()
                self._turn.notify_all()
            self._turn.wait_for(
                lambda: use in self.ready or self._compiles or use in self._apart or self._thread is None, patience
            )
        return use in self.ready

    def is_next(self, use: Hashable) -> bool:
        """Tell whether a use is being loaded from disk, or about to be."""
        return use in self._asked and use not in self._begins and use not in self._apart

    def enough(self, rest: float) -> None:
        """Say that what is loaded of a use serves, and put off the rest; called in the loader's thread."""
        with self._turn:
            use = self._now
            self.ready.add(use)
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
            LeftError: It is compiled apart.
        """
        with self._turn:
            taken = self._now in self._asked and self._apart.takes(self._now, self._asked[self._now], missing=True)
            self._compiles = not taken
            self._turn.notify_all()
        if taken:
            raise LeftError

    def is_compiling(self) -> bool:
        """Tell whether a process compiles for this one."""
        return bool(self._apart)

    def is_compiling_apart(self) -> bool:
        """Tell whether a process of this one's takes a processor for that, now."""
        return self._apart.works()

    def interrupt_if_asked(self) -> None:
        """Leave a rehearsal where the process ends, or is about to fork; called in the loader's thread."""
        if self._ends or self._holds:
            raise InterruptedLoadError

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
        this_thread.loads = True
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
            except (InterruptedLoadError, LeftError):
                continue  # once more after a fork, or when it is compiled; what was loaded by then is there
            except Exception as error:  # what a rehearsal cannot load, the call that wants it loads
                failed(error)
            finally:
                compiled()  # whatever was about to be
            with self._turn:
                self.ready.add(use)
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
                able: tuple[Hashable, Rehearsal] | None = None
                for use, rehearse in self._asked.items():
                    if not self._ends and time.monotonic() < self._begins.get(use, 0.0):
                        continue
                    if use not in self._apart and not self._apart.takes(use, rehearse) and not self._ends:
                        able = use, rehearse
                if able is not None:
                    self._still, self._now = False, able[0]
                    return able
                if self._ends or not self._asked:
                    self._apart.look(hurry=self._ends)
                    idle, compiler = not self._apart, self._apart.close()
                    self._thread, self._last = None, self._thread
                    break
                self._turn.notify_all()
                self._turn.wait(POLL)
        leave(compiler, wait=idle)
        return None


def compiled() -> None:
    """Say that this thread compiles no more, if it did."""
    compiling.discard(threading.get_ident())
