"""Threads for blocks of rows, each running torch single-threaded; the caller's process stays as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")

_starting = threading.Lock()


def for_each(work: Callable[[Item], None], items: Iterable[Item], workers: int) -> None:
    """Call work(item) for every item on `workers` threads; the first exception ends the rest and is raised."""
    if workers <= 1:
        for item in items:
            work(item)
        return
    pool = _pool(workers)
    try:
        futures = [pool.submit(work, item) for item in items]
        for future in futures:
            future.result()
    finally:
        # Also after Ctrl-C: blocks that have begun are waited for, the others never start.
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> ThreadPoolExecutor:
    """Start a pool whose threads run torch with one thread each, while every other thread keeps its count.

    `torch.set_num_threads` sets the calling thread's own count and also a process-wide number, which a thread
    copies when it first asks. So a worker first asks (or it would copy the number again later), then sets 1;
    afterwards a short-lived thread sets the number back to what new threads saw before. The lock keeps two
    searches that start at once from taking each other's 1 for the original.
    """
    with _starting:
        before: list[int] = []
        _in_new_thread(lambda: before.append(torch.get_num_threads()))
        ready = threading.Barrier(workers + 1)

        def begin() -> None:
            torch.get_num_threads()
            torch.set_num_threads(1)
            ready.wait()

        pool = ThreadPoolExecutor(workers, "knn", initializer=begin)
        for _ in range(workers):
            pool.submit(int)
        ready.wait()
        _in_new_thread(lambda: torch.set_num_threads(before[0]))
    return pool


def _in_new_thread(job: Callable[[], object]) -> None:
    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
