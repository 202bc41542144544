"""Processes of a torch.distributed group on this machine: forks of one that imported the package, ended by the caller.

They meet by a file, so that no port must be free, and none outlives the call that started it.
"""

from __future__ import annotations

import datetime
import multiprocessing
import multiprocessing.connection
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import fresh_process

Work = Callable[..., Any]


def together(
    size: int, work: Work, *arguments: object, timeout: float = 60, limit: float = 200, missing: int = -1
) -> list[Any]:
    """Return what work(rank, size, *arguments) returns in each process of a group.

    Args:
        size: How many processes.
        work: A function of a module, which processes import.
        arguments: What it is called with.
        timeout: Seconds that a collective waits.
        limit: Seconds that all of it may take.
        missing: A process for which nobody waits.

    Returns:
        The result of each process; None of the missing one.

    Raises:
        AssertionError: A process raised, or ran too long.
    """
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(fresh_process.PRELOAD)
    started, pipes = [], []
    # The environment is for the process that is forked, which the first call starts.
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, fresh_process.ENVIRONMENT):
        try:
            for rank in range(size):
                mine, its = context.Pipe(duplex=False)
                at = str(Path(folder) / "meeting"), timeout
                started.append(context.Process(target=_run, args=(its, rank, size, at, work, arguments)))
                started[-1].start()
                its.close()
                pipes.append(mine)
            return _results(pipes, time.monotonic() + limit, missing)
        finally:
            for process in started:
                process.kill()
                process.join()
            for pipe in pipes:
                pipe.close()


def _results(pipes: list[Connection], until: float, missing: int) -> list[Any]:
    results: list[Any] = [None] * len(pipes)
    waiting: dict[Any, int] = {pipe: rank for rank, pipe in enumerate(pipes) if rank != missing}
    while waiting:
        ready = multiprocessing.connection.wait(list(waiting), max(0.0, until - time.monotonic()))
        assert ready, f"processes {sorted(waiting.values())} ran too long"
        for pipe in ready:
            rank = waiting.pop(pipe)
            try:
                error, results[rank] = pipe.recv()  # type: ignore[union-attr]
            except EOFError:
                error = "died"
            assert not error, f"process {rank}: {error}"
    return results


def _run(
    to: Connection, rank: int, size: int, at: tuple[str, float], work: Work, arguments: tuple[object, ...]
) -> None:
    import torch
    import torch.distributed as dist

    os.environ["JANELIA_CORE_KERNELS"] = "wait"
    torch.set_num_threads(1)
    try:
        limit = datetime.timedelta(seconds=at[1])
        dist.init_process_group("gloo", init_method=f"file://{at[0]}", rank=rank, world_size=size, timeout=limit)
        to.send(("", work(rank, size, *arguments)))
    except BaseException:
        to.send((traceback.format_exc(), None))
    to.close()
    os._exit(0)  # a group that lost a process waits for it at exit
