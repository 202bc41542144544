"""Threads for blocks of work: the one place where this package has any compute.

    Workers --> in the calling thread     where work needs no thread, or none is to be had
           `--> a team of threads         borrowed (standing), or started when there is something for each of them to do
    shared  --> the calling thread and a team, for blocks too small for threads of torch's own

Both hand items out through a job (jobs), and return when nobody works on it any more.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from janelia_core.ml._runtime.jobs import Job, quietly
from janelia_core.ml._runtime.machine import flushes_subnormals
from janelia_core.ml._runtime.standing import borrowed, give_back
from janelia_core.ml._runtime.team import Team, is_worker, join, serves, start_as_many

Item = TypeVar("Item")
Result = TypeVar("Result")

_CPU = torch.device("cpu")
_this_thread = threading.local()
_survivor: int | None = None  # the thread that a fork left in this process, if a fork made it


class Workers:
    """`count` threads for as long as a `with` block lasts, or without a pool the calling thread itself.

    Threads of a pool run torch with one thread each and compute with subnormals, whatever the caller does. Work that
    a worker shares out in its turn, it does itself: it has these settings already.

    Args:
        count: How many threads at most; fewer where there is less to do, or the system gives no more.
        pool: Whether to start threads at all.
        tiny: Torch does such work in one thread anyway.
        device: Where the tensors are. On an accelerator all is done in the calling thread: its stream and its current
            device are settings of the thread, and kernels wait in the stream anyway.
    """

    def __init__(self, count: int, pool: bool = True, tiny: bool = False, device: torch.device = _CPU) -> None:
        self._device_type = device.type
        self.count = count if self._is_here else 1
        self._pooled, self._tiny = pool, tiny
        self._team: Team | None = None

    @classmethod
    def if_several(cls, count: int, tiny: bool = False, device: torch.device = _CPU) -> Workers:
        """Threads if there are several, else the calling thread."""
        return cls(count, count > 1, tiny, device)

    @property
    def _is_here(self) -> bool:
        return self._device_type == "cpu"

    def __enter__(self) -> Workers:
        more = torch.get_num_threads() > 1  # than this one, for torch
        if is_worker():
            self._pooled = False
        elif not self._is_here:  # what is left for the CPU must not be flushed
            self._pooled = flushes_subnormals()
        elif self._pooled:
            # One worker, and torch would not use more threads either: then the calling thread does as well.
            self._team = borrowed() if more or self.count > 1 else None
        elif more and _lost_threads():  # MKL asks for threads however tiny the work is
            self._team = Team(single=False)
        else:  # as one of a pool that has no threads, where torch can be given none, or differences may be flushed
            no_threads = more and not self._tiny and not _torch_may_start_threads()
            self._pooled = no_threads or flushes_subnormals()
        return self

    def __exit__(self, *_: object) -> None:
        if self._team is not None:
            give_back(self._team)

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return [work(item) for item in items], done in any order; the first item's exception is raised."""
        if serves() or (self._team is None and not self._pooled):
            with quietly(torch.is_inference_mode_enabled(), self._device_type):
                return [work(item) for item in items]
        job = Job(work, items, self._device_type)
        if self._team is not None and (count := self._team.grow(min(self.count, len(job)))):
            self._team.do(job, count)
        elif self._pooled:
            with _as_worker():
                job.run()
        else:
            job.run()
        return job.outcome()

    def once(self, job: Callable[[], Result]) -> Result:
        """Return job(), done by one worker."""
        return self.each(lambda _: job(), [None])[0]


def shared(work: Callable[[Item], object], items: Iterable[Item], count: int) -> None:
    """Call work(item) on all items in the calling thread and up to count - 1 others.

    Those flush subnormals where the caller does, and run torch with one thread each.
    """
    if _lost_threads() or serves():
        with Workers(count) as workers:
            workers.each(work, items)
        return
    flushes = flushes_subnormals()
    job = Job(_flushing(work) if flushes else work, items)
    count = min(count, len(job))
    team = borrowed() if count > 1 else Team(single=True)
    try:
        helpers = team.grow(count - 1)
        with _as_worker() if helpers < count - 1 else contextlib.nullcontext():
            team.do(job, helpers, beside=job.run)
    finally:
        give_back(team)
    job.outcome()


def _flushing(work: Callable[[Item], Result]) -> Callable[[Item], Result]:
    """Return work done with subnormals as zeros, which is a setting of the thread."""

    def done(item: Item) -> Result:
        before = flushes_subnormals()
        torch.set_flush_denormal(True)
        try:
            return work(item)
        finally:
            torch.set_flush_denormal(before)

    return done


@contextlib.contextmanager
def _as_worker() -> Iterator[None]:
    """Make the calling thread one of a pool, as it were; threads that begin meanwhile take over its count of 1.

    Without a thread to be had none begins, and torch could not start its own: OpenMP would end the process.
    """
    count, flushes = torch.get_num_threads(), flushes_subnormals()
    try:
        if count > 1:
            torch.set_num_threads(1)
        if flushes:
            torch.set_flush_denormal(False)
        with torch._C.DisableTorchFunction():  # modes are settings of a thread, too: a default device, say
            yield
    finally:
        if count > 1:
            torch.set_num_threads(count)
        if flushes:
            torch.set_flush_denormal(True)


def _lost_threads() -> bool:
    """Tell whether OpenMP may wait for ever in this thread: for threads that torch had in it before a fork."""
    return _survivor == threading.get_ident() and torch.get_num_threads() > 1


def _torch_may_start_threads() -> bool:
    """Tell whether this thread can be given those that torch wants; once OpenMP has them, it keeps them."""
    if not getattr(_this_thread, "may_start", False):
        probes: list[threading.Thread] = []
        gate = threading.Event()
        try:
            start_as_many(probes, torch.get_num_threads() - 1, gate.wait)
        finally:
            gate.set()
            join(probes)
        _this_thread.may_start = len(probes) == torch.get_num_threads() - 1
    return bool(_this_thread.may_start)


def _note_fork() -> None:
    global _survivor
    _survivor = threading.get_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
