"""Processes of a group of which one fails, dies or stops, at a place that chance picks."""

from __future__ import annotations

import os
import pickle
import random
import signal
import time
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

from distributed_checks import near_ties, same
from janelia_core.ml import distributed, knn
from janelia_core.ml._distributed import asked, call, facts, gradients, measured, owner, session
from janelia_core.ml._distributed.shard import Shard

PLACES: list[tuple[Any, str]] = [
    (asked, "checked_points"),
    (facts, "checksum"),
    (call, "_nobody"),
    (Shard, "find"),
    (Shard, "frame"),
    (Shard, "lists"),
    (owner, "order"),
    (owner, "contested"),
    (owner, "_wanted"),
    (owner, "picked_rows"),
    (owner, "settle"),
    (measured, "chosen"),
    (measured, "distances"),
    (session.Session, "differentiable"),
    (gradients, "_derived"),
]
ERRORS = (ValueError, RuntimeError, KeyboardInterrupt, MemoryError)


class Trial(NamedTuple):
    """How a trial went on one process.

    Attributes:
        place: Where an error was raised.
        failed: On which process.
        kind: The error that this process met.
        text: Its words.
        thrown: When it was raised, on the process where that was; else 0.
        met: When this process met its own.
    """

    place: str
    failed: int
    kind: str
    text: str
    thrown: float
    met: float


def trials(rank: int, size: int, count: int) -> list[Trial]:
    """Return how trials went, after each of which the group must serve again."""
    g = random.Random(size)
    out = []
    for number in range(count):
        where, name = PLACES[number % len(PLACES)]
        failed, error, after = g.randrange(size), g.choice(ERRORS), g.choice((1, 2))
        after = 1 if where in (asked, facts, call, session.Session) else after
        out.append(_trial(rank, (where, name), failed, error, after))
        dist.barrier()
    return out


def _trial(rank: int, place: tuple[Any, str], failed: int, error: type[BaseException], after: int) -> Trial:
    x, ctrs = near_ties(150, 300)
    at = [300 * i // dist.get_world_size() for i in range(dist.get_world_size() + 1)]
    before, calls, thrown = getattr(*place), 0, 0.0

    def fails(*arguments: Any, **named: Any) -> Any:
        nonlocal calls, thrown
        calls += 1
        if calls == after and rank == failed:
            thrown = time.monotonic()
            raise error("thrown on purpose")
        return before(*arguments, **named)

    kind, text = "", ""
    with mock.patch.object(*place, fails):
        try:
            rows, shard = x.clone().requires_grad_(), ctrs[at[rank] : at[rank + 1]].clone().requires_grad_()
            distributed.knn(rows, shard, 12, max_memory=1 << 20).distances.sum().backward()
        except BaseException as met:
            kind, text = type(met).__name__, str(met)
    met_at = time.monotonic()
    got, want = distributed.knn(x[:9], ctrs[at[rank] : at[rank + 1]], 3), knn(x[:9], ctrs, 3)
    if not (same(got.indices, want.indices) and same(got.distances, want.distances)):
        kind = "another answer afterwards"
    return Trial(place[1], failed, kind, text, thrown, met_at)


def gone(rank: int, size: int, how: int) -> tuple[str, str, float]:
    """Return what a process meets when the last one is killed, or stopped, while it searches; and after how long."""
    x, ctrs = near_ties(150, 300)

    def mask(rows: Tensor, first: int, last: int) -> Tensor:
        if rank == size - 1:
            os.kill(os.getpid(), how)
        return torch.ones(len(rows), last - first, dtype=torch.bool)

    distributed.knn(x, ctrs[rank::size], 5)
    started = time.monotonic()
    try:
        distributed.knn(x, ctrs[rank::size], 5, mask=mask)
    except distributed.DistributedError as error:
        taken = time.monotonic() - started
        again = pickle.loads(pickle.dumps(error))  # as pools of processes send errors
        return again.stage, str(again), taken
    return "", "no error", 0.0


KILL, STOP = signal.SIGKILL, signal.SIGSTOP
