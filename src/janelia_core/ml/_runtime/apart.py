"""Kernels are compiled in a process of their own, which fills the cache on disk; this process then loads them.

The compiler holds Python's lock nearly all the time: in a thread beside a search it makes torch operations three times
slower, and all else that the user's program does. So rehearsals are sent to a child, one at a time, what was wanted
last first, and it says when each is done; what was not sent by then is sent at the end of this process. It is of lower
priority, outlives this process where that ends first (so that also a short script leaves a filled cache; one that is
killed leaves what was being compiled), and ends when it has nothing to do, when the folder of the cache goes, or after
some minutes.

Of several processes that want kernels one compiles: it holds a lock on a file in that folder, which the child inherits,
so that the lock goes with it, however it ends. The others wait for that, and then look on disk.

Where that cannot be (a rehearsal that cannot be pickled, no folder, no interpreter, Windows), `takes` says no, and the
thread that loads kernels compiles them; also where the child failed, or its work is not found on disk.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from janelia_core.ml._runtime.marks import LOCK, is_marked, writable

VARIABLE = "JANELIA_CORE_KERNELS"
_IN_THREAD = "thread"
_DELAY = 1.0  # seconds before the first start: what takes less is not disturbed
_LONGEST = 300.0  # seconds to wait for the child of another process
_SILENT = 360.0  # seconds without an answer after which a child of this process is given up: it ends itself before
_END = 5.0  # seconds in which a child that has nothing to do ends
_SETTINGS = {"NUMBA_CACHE_DIR": "CACHE_DIR", "NUMBA_CPU_NAME": "CPU_NAME", "NUMBA_CPU_FEATURES": "CPU_FEATURES"}
# In one line, so that it is no import of this module: what kernels are compiled from is told by those (`source_stamp`),
# and must be the same in both processes.
_PROGRAM = (
    "import sys, pickle; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from janelia_core.ml._runtime.compiling import serve; serve({lock})"
)


class _TakenError(Exception):
    """Another process compiles."""


class Apart:
    """A process that compiles, what it was asked for, and what need not be asked again.

    Nothing here waits.
    """

    def __init__(self) -> None:
        self._away: dict[Hashable, bytes] = {}  # what was wanted last stands last
        self._sent: Hashable = None  # of those, what the child does
        self._tried: set[Hashable] = set()
        self._missing: set[Hashable] = set()  # whose marks are wrong
        self._process: subprocess.Popen[bytes] | None = None
        self._unsent = b""
        self._begins = 0.0  # when the child may start
        self._since: float | None = None  # another process has been compiling
        self._heard = 0.0  # when the child started, or answered

    def __contains__(self, use: Hashable) -> bool:
        """Tell whether a use is being compiled."""
        return use in self._away

    def __bool__(self) -> bool:
        """Tell whether anything is being compiled."""
        return bool(self._away)

    def works(self) -> bool:
        """Tell whether the process compiles, as far as is known here."""
        return self._process is not None and self._sent is not None

    def takes(self, use: Hashable, rehearse: Callable[[], object], missing: bool = False) -> bool:
        """Begin to compile what a rehearsal wants, unless it is on disk, or cannot be compiled here.

        Args:
            use: What for.
            rehearse: Loads it.
            missing: It is not on disk, whatever is marked.
        """
        if use in self._tried or not (missing or not is_marked(use)):
            return False
        request = _request(use, rehearse) if _may_start() else None
        if request is None:
            self._tried.add(use)
            return False
        if not self._away:
            self._begins = time.monotonic() + _DELAY
        if missing:
            self._missing.add(use)
        self._away[use] = request
        self.look()
        return use in self._away

    def wants(self, use: Hashable) -> None:
        """Have a use compiled before all others that were not sent yet."""
        if use in self._away:
            self._away[use] = self._away.pop(use)

    def look(self, hurry: bool = False) -> None:
        """Go on as far as that is possible at once: start the child, send, see what it has done.

        Args:
            hurry: This process is about to end: all is sent.
        """
        if self._process is None and self._away and (hurry or time.monotonic() > self._begins):
            self._start()
        if self._process is not None:
            self._receive()
        if self._process is not None:
            self._send_next(all_left=hurry)
            if time.monotonic() > self._heard + _SILENT:
                self._process.kill()
                self._fail()

    def close(self) -> subprocess.Popen[bytes] | None:
        """Let the child end when it has done all that was sent; return it, to be given to `leave`."""
        process, self._process = self._process, None
        for pipe in () if process is None else (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        return process

    def _start(self) -> None:
        try:
            lock = _lock()
        except _TakenError:
            self._leave_to_others()
            return
        except OSError:
            self._fail()
            return
        try:
            if self._since is not None:  # what another process has compiled is on disk
                self._drop_marked()
                self._since = None
            if self._away:
                self._process, self._heard = _started(lock), time.monotonic()
                self._unsent, self._sent = pickle.dumps([os.path.abspath(path) for path in sys.path]), None
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError):
            self._fail()
        finally:
            os.close(lock)

    def _leave_to_others(self) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        self._drop_marked()
        if now > self._since + _LONGEST:
            self._fail()

    def _drop_marked(self) -> None:
        for use in [use for use in self._away if use not in self._missing and is_marked(use)]:
            del self._away[use]

    def _send_next(self, all_left: bool) -> None:
        left = [use for use in reversed(self._away) if use != self._sent]
        if self._sent is None and left:
            self._sent = left.pop(0)
            self._unsent += self._away[self._sent]
        if all_left:
            self._unsent += b"".join(self._away[use] for use in left)
        self._send()

    def _send(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with _without_signal(), contextlib.suppress(OSError):  # a child that has died: its answers will tell
            while self._unsent and (sent := self._process.stdin.write(self._unsent)):
                self._unsent = self._unsent[sent:]

    def _receive(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        answers = self._process.stdout.read(1 << 10)
        if answers is None:  # nothing yet
            return
        if not answers:
            self._fail()
            return
        self._heard = time.monotonic()
        if self._sent is not None:
            self._away.pop(self._sent, None)
            self._tried.add(self._sent)
            self._sent = None

    def _fail(self) -> None:
        self._tried |= self._away.keys()
        self._away.clear()
        self._sent = self._since = None
        leave(self.close(), wait=True)


def leave(process: subprocess.Popen[bytes] | None, wait: bool) -> None:
    """Take leave of a child, after its end if it is waited for, so that nothing is left of it."""
    if process is None:
        return
    if wait:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END)
    if process.returncode is None:
        process.returncode = 0  # it goes on alone: nothing to warn of


@contextlib.contextmanager
def _without_signal() -> Iterator[None]:
    """Write to a pipe that nobody reads without SIGPIPE, which would end a process that does not ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        if signal.SIGPIPE in signal.sigpending() and signal.SIGPIPE not in before:
            signal.sigwait({signal.SIGPIPE})
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _may_start() -> bool:
    """Tell whether a process may be started that runs Python."""
    name = os.path.basename(sys.executable or "").lower()
    frozen = bool(getattr(sys, "frozen", False))
    return os.name == "posix" and os.environ.get(VARIABLE) != _IN_THREAD and "python" in name and not frozen


def _request(use: Hashable, rehearse: Callable[[], object]) -> bytes | None:
    try:
        return pickle.dumps(pickle.dumps((use, rehearse)))  # what cannot be read there is an answer, too
    except Exception:  # whatever a closure or an object of the user says to that
        return None


def _lock() -> int:
    """Return the file, open and locked, where the file system has locks.

    Raises:
        _TakenError: Another process holds it.
        OSError: There is no folder to write to.
    """
    folder = writable()
    if folder is None:
        raise OSError("no folder")
    import fcntl

    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise _TakenError from None
    except OSError:
        pass  # without locks several may compile the same; the child sees by the file whether the folder is there
    return file


def _started(lock: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-B", "-c", _PROGRAM.format(lock=lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        pass_fds=(lock,),
        start_new_session=True,  # Ctrl-C is not for it
        cwd="/",
        env=_environment(),
    )
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
    return process


def _environment() -> dict[str, str]:
    """Return the environment, with what decides where kernels are kept and for which processor."""
    config: Any = getattr(sys.modules.get("numba"), "config", None)
    ours = {name: getattr(config, setting, None) for name, setting in _SETTINGS.items()}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    kept |= {name: str(value) for name, value in ours.items() if value is not None}
    if kept.get("NUMBA_CACHE_DIR"):
        kept["NUMBA_CACHE_DIR"] = os.path.abspath(kept["NUMBA_CACHE_DIR"])
    return kept | {VARIABLE: "wait", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
