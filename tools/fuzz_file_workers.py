"""Processes that open the cases of the fuzz of files, and take each other's place when one crashes."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fuzz_file_cases import Fuzz, Watch, written

KNOWN = "known"
UPSTREAM = {
    "level histogram size mismatch": "pyarrow 26 ends the process where a footer's size statistics are damaged",
}
"""What other libraries say when they end the process, where nothing can be checked before they do: told, no failure."""
HUNG = 20.0  # seconds after which a process is ended


class Worker:
    """A process that opens every `step`-th case from one on; another takes its place where one crashes it."""

    def __init__(self, fuzz: Fuzz, first: int, step: int, stop: int, folder: Path) -> None:
        self.fuzz, self.next, self.step, self.stop = fuzz, first, step, stop
        self.folder = folder / str(first)
        self.folder.mkdir()
        # Shared with the process, each number written at once: the case at work, when it began, how many are done and
        # how many of them were opened.
        self.state = memoryview(mmap.mmap(-1, 32)).cast("d")
        self.report, self._told = os.pipe()
        os.set_blocking(self.report, False)
        self.begin()

    def begin(self) -> None:
        """Start the process."""
        self.state[1], self.state[0] = time.monotonic(), self.next
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                self._work()
                code = 0
            finally:
                os._exit(code)

    def _work(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        output = os.open(self.folder / "written", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        watch = Watch(output)
        parent = os.getppid()
        for number in range(self.next, self.stop, self.step):
            if os.getppid() != parent:  # it was ended
                break
            case = self.fuzz.case(number)
            self.state[1], self.state[0] = time.monotonic(), number
            was_opened, told = watch.broken(case, written(case, self.folder))
            self.state[2] += 1
            self.state[3] += was_opened
            if told:
                os.write(self._told, f"{case.format}:{number} {told}\n".encode("utf-8", "backslashreplace"))

    def problems(self) -> list[str]:
        """Return what the process told since the last call; one that hangs is ended."""
        found = []
        with contextlib.suppress(BlockingIOError):
            found = os.read(self.report, 1 << 20).decode().splitlines()
        return found

    def ended(self) -> str | None:
        """Return None while it works, else the case that ended it before its time, or ""."""
        hung = time.monotonic() - self.state[1] > HUNG
        if hung:
            os.kill(self.pid, signal.SIGKILL)
        pid, status = os.waitpid(self.pid, 0 if hung else os.WNOHANG)
        if pid == 0:
            return None
        if status == 0:
            return ""
        number = int(self.state[0])
        self.next = number + self.step
        self.state[2] += 1
        name = f"{self.fuzz.formats[number % len(self.fuzz.formats)]}:{number}"
        code = os.waitstatus_to_exitcode(status)
        how = "hangs" if hung else f"ends the process: {signal.Signals(-code).name if code < 0 else code}"
        last = (self.folder / "written").read_text(errors="backslashreplace")[:300]
        known = next((f"{KNOWN} ({reason}): " for text, reason in UPSTREAM.items() if text in last), "")
        return f"{name} {known}{how} {last!r}"


def run(fuzz: Fuzz, openings: int, seconds: float, processes: int) -> Iterator[str]:
    """Open cases until there were enough or time is up; yield what breaks a rule, and at last the counts."""
    began = time.monotonic()
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        workers = [Worker(fuzz, at, processes, openings, Path(folder)) for at in range(processes)]
        left = list(workers)
        while left and time.monotonic() - began < seconds:
            time.sleep(0.05)
            for worker in list(left):
                ended = worker.ended()
                yield from worker.problems()
                if ended:
                    yield ended
                    worker.begin()
                elif ended == "":
                    left.remove(worker)
        for worker in left:
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
            yield from worker.problems()
        done, ok = (int(sum(worker.state[at] for worker in workers)) for at in (2, 3))
        took = time.monotonic() - began
        yield f"= {done} openings in {took:.0f} s ({done / took:.0f} a second), {ok} of them opened and read"
