"""Threads for blocks of rows, each running torch single-threaded; the caller's process stays as it was."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_starting = threading.Lock()


class Workers:
    """`count` threads for as long as a `with` block lasts, or without a pool the calling thread itself."""

    def __init__(self, count: int, pool: bool = True) -> None:
        self.count = count
        self._pooled = pool
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self._pooled:
            self._threads = _pool(self.count)
        return self

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            # Also after Ctrl-C: jobs that have begun are waited for, the others never start.
            self._threads.shutdown(wait=True, cancel_futures=True)

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return [work(item) for item in items], done in any order; the first exception is raised."""
        if self._threads is None:
            return [_quietly(work, item) for item in items]
        return [future.result() for future in [self._threads.submit(_quietly, work, item) for item in items]]

    def once(self, job: Callable[[], Result]) -> Result:
        """Return job(), done by one worker."""
        return self.each(lambda _: job(), [None])[0]


def _quietly(work: Callable[[Item], Result], item: Item) -> Result:
    """Work on an item without graphs or autocast, which are settings of a thread."""
    with torch.no_grad(), contextlib.ExitStack() as stack:
        for device_type in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        return work(item)


def _pool(workers: int) -> ThreadPoolExecutor:
    """Start a pool whose threads run torch with one thread each and keep subnormals; others keep their settings.

    `torch.set_num_threads` sets the calling thread's own count and also a process-wide number, which a thread
    copies when it first asks. So a worker first asks (or it would copy the number again later), then sets 1;
    afterwards a short-lived thread sets the number back to what new threads saw before. The lock keeps two
    searches that start at once from taking each other's 1 for the original. What remains: a thread that the
    caller starts elsewhere *and* that first uses torch within the fraction of a millisecond in between copies 1.
    """
    with _starting:
        before: list[int] = []
        _in_new_thread(lambda: before.append(torch.get_num_threads()))
        ready = threading.Barrier(workers + 1)

        def begin() -> None:
            torch.get_num_threads()
            torch.set_num_threads(1)
            torch.set_flush_denormal(False)  # a setting of the thread, which it takes over from the one that starts it
            with contextlib.suppress(threading.BrokenBarrierError):
                ready.wait()

        pool = ThreadPoolExecutor(workers, "knn", initializer=begin)
        try:
            for _ in range(workers):
                pool.submit(int)
            ready.wait()
        except BaseException:  # a thread that cannot start, or Ctrl-C: let the others go
            ready.abort()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            _in_new_thread(lambda: torch.set_num_threads(before[0]))
    return pool


def _in_new_thread(job: Callable[[], object]) -> None:
    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
