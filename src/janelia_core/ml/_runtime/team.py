"""Threads that do jobs together, each running torch in one thread; all others keep their settings.

`torch.set_num_threads` sets the calling thread's own count and also a process-wide number, which a thread copies when
it first asks: a thread that has only *set* its count has not asked. So whoever starts such threads first asks, and a
thread of a team first asks (or either would copy the number later), then sets 1; when all that were started together
have done so, a short-lived thread sets the number back to what the first of them saw. The lock keeps two teams that
start at once from taking each other's 1 for the original, and a fork out of the middle. What remains: a thread that the
caller starts elsewhere *and* that first uses torch within the fraction of a millisecond in between copies 1.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import torch

from janelia_core.ml._runtime.jobs import Job

NAME = "janelia-core"
"""Of every thread that this package starts to compute."""

_counts = threading.RLock()
_this_thread = threading.local()
_FOLLOW = -1


def is_worker() -> bool:
    """Tell whether this thread belongs to a team that runs torch in one thread each."""
    return getattr(_this_thread, "single", False)


def serves() -> bool:
    """Tell whether this thread does jobs for a team: what it would share out, it does itself, or it would never end."""
    return getattr(_this_thread, "serves", False)


def start_as_many(
    threads: list[threading.Thread], count: int, target: Callable[[], object], daemon: bool | None = None
) -> None:
    """Start threads and append them until there are count, or until the system gives no more.

    The list holds a thread before it starts, so that after Ctrl-C none is forgotten. Daemons are left alone when the
    interpreter ends; None: as the calling thread is.
    """
    while len(threads) < count:
        threads.append(threading.Thread(target=target, name=NAME, daemon=daemon))
        try:
            threads[-1].start()
        except (RuntimeError, MemoryError):  # a limit, or the interpreter is about to end
            threads.pop()
            return


def join(threads: list[threading.Thread]) -> None:
    """Wait for the end of threads, but not of one that Ctrl-C hit in the middle of its start."""
    for thread in threads:
        if thread.ident is not None:
            thread.join()


def keep_own_count() -> None:
    """Have this thread copy its count of torch's threads now, if it has not: others are about to change the number."""
    with _counts:  # not while the number is 1
        torch.get_num_threads()


def alone() -> None:
    """Run torch in this thread alone from now on, if all others can be left as they are."""
    with _counts:
        before = _one_thread()
        if before > 1 and not _set_for_new_threads(before):
            torch.set_num_threads(before)


class Team:
    """Threads that do one job after the other.

    They are daemons: whoever hands out a job waits for it, and between jobs the interpreter may end.

    Args:
        single: They run torch with one thread each, and compute with subnormals; else with a new thread's settings.
    """

    def __init__(self, single: bool) -> None:
        self._threads: list[threading.Thread] = []  # first: Ctrl-C may come between any two lines
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._starts: list[_Start] = []
        self._single = single
        self._idle = True

    def may_stand(self) -> bool:
        """Tell whether threads wait, all jobs have been waited for, and no setting of the process is to be set back."""
        return self._single and self._idle and bool(self._threads) and all(start.settled() for start in self._starts)

    def __len__(self) -> int:
        return len(self._threads)

    def grow(self, count: int) -> int:
        """Become count threads at least, or as many as can be had; return how many of them there are."""
        if len(self._threads) < count:
            keep_own_count()
            start, before, jobs = _Start(self._single), len(self._threads), self._jobs
            try:
                start_as_many(self._threads, count, lambda: _serve(start, jobs), daemon=True)
                self._starts += [start] if len(self._threads) > before else []
                start.go(len(self._threads) - before)
            except BaseException:
                self._idle = False  # whoever was let in may not be there yet
                start.call_off(len(self._threads) - before)
                raise
        return min(count, len(self._threads))

    def do(self, job: Job[Any, Any], count: int, beside: Callable[[], None] | None = None) -> None:
        """Have a job done by count of the threads, with what the calling thread does `beside`, and wait for them."""
        ended: SimpleQueue[None] = (
            SimpleQueue()
        )  # of this job: what Ctrl-C leaves in it, no other job takes for its own

        def run() -> None:
            job.run()
            ended.put(None)

        self._idle = False
        try:
            for _ in range(count):
                self._jobs.put(run)
            if beside is not None:
                beside()
            for _ in range(count):
                ended.get()
        except BaseException:
            job.stop()
            raise
        self._idle = True

    def end(self) -> None:
        """Wait for what has begun, and end all threads."""
        self.__del__()
        join(self._threads)

    def __del__(self) -> None:
        """Let threads end, also where Ctrl-C came before `end`: they do not hold the team. Twice does no harm."""
        for _ in getattr(self, "_threads", ()):
            self._jobs.put(None)


def _serve(start: _Start, jobs: SimpleQueue[Callable[[], None] | None]) -> None:
    """Do jobs until there is none."""
    if not start.begin():
        return
    _this_thread.serves = True
    while (job := jobs.get()) is not None:
        job()
        del job  # or what it works on would live until the next
    start.end()


class _Start:
    """Threads begin together, without the caller, whom Ctrl-C may call away at any time."""

    def __init__(self, single: bool) -> None:
        self._single = single
        self._gate: SimpleQueue[int | None] = SimpleQueue()
        self._seen: SimpleQueue[int] = SimpleQueue()
        self._leader: int | None = None
        self._owed = 0  # the number for new threads, where no thread was to be had that would set it back
        self._begun = threading.Event()  # by who leads

    def go(self, count: int) -> None:
        """Let count threads begin: one leads, as many as it is told follow."""
        if count:
            self._gate.put(count - 1)
            if not self._single:
                for _ in range(count - 1):
                    self._gate.put(0)

    def call_off(self, count: int) -> None:
        """Let threads end that have not begun."""
        for _ in range(count):
            self._gate.put(None)

    def begin(self) -> bool:
        """Wait to be let in, and take the team's settings; tell whether there is anything to do."""
        followers = self._gate.get()
        if followers is None:
            self._seen.put(0)  # whoever leads, where the others were let in before they were called off, waits for all
            return False
        if not self._single:
            return True
        _this_thread.single = True
        torch.set_flush_denormal(False)  # a setting of the thread, which it takes over from the one that starts it
        if followers == _FOLLOW:
            self._seen.put(_one_thread())
            return True
        try:
            self._lead(followers)
        finally:
            self._begun.set()
        return True

    def _lead(self, followers: int) -> None:
        with _counts:
            for _ in range(followers):
                self._gate.put(_FOLLOW)
            before = max([_one_thread(), *(self._seen.get() for _ in range(followers))])
            self._leader = threading.get_ident()
            self._owed = before if before > 1 and not _set_for_new_threads(before) else 0

    def settled(self) -> bool:
        """Tell, when threads that were let in have begun, whether nothing is to be set back."""
        self._begun.wait()
        return not self._owed

    def end(self) -> None:
        """Set back what could not be set back at the beginning: this thread's own count matters no more."""
        if self._owed and self._leader == threading.get_ident():
            torch.set_num_threads(self._owed)


def _one_thread() -> int:
    """Run torch in this thread alone from now on; return the count that it began with."""
    before = torch.get_num_threads()
    if before > 1:
        torch.set_num_threads(1)
    return before


def _set_for_new_threads(count: int) -> bool:
    """Set what threads copy that first ask from now on; tell whether that was possible."""
    threads: list[threading.Thread] = []
    start_as_many(threads, 1, lambda: torch.set_num_threads(count))
    join(threads)
    return bool(threads)


def _renew_lock() -> None:
    global _counts
    _counts = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _counts.acquire(), after_in_parent=lambda: _counts.release(), after_in_child=_renew_lock
    )
