"""A tournament: the smallest of many values, the next one when that is taken away, and so on, ties by position.

Values stand in groups of FAN; each group's smallest stands in a group of the next round, up to a last round of one
group. To take the smallest away costs two vector operations a round, whatever comes next: no comparison is a branch.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._runtime.arrays import F32, F64, I64
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.least import FAN, place, replace, smallest


@jit
def rounds_of(n: int) -> I64:
    """Returns where each round of n values starts, and behind them how many slots all rounds take."""
    n_rounds, groups = 1, (n + FAN - 1) // FAN
    while groups > 1:
        groups = (groups + FAN - 1) // FAN
        n_rounds += 1
    starts = np.zeros(n_rounds + 1, np.int64)
    groups = n
    for number in range(n_rounds):
        groups = (groups + FAN - 1) // FAN
        starts[number + 1] = starts[number] + FAN * groups
    return starts


@jit
def play(values: F32 | F64, starts: I64) -> None:
    """Fills all rounds but the first; unused slots of every round hold inf, and must do so before."""
    for number in range(1, starts.shape[0] - 1):
        for group in range((starts[number] - starts[number - 1]) // FAN):
            values[starts[number] + group] = smallest(values, starts[number - 1] + FAN * group)


@jit
def lowest(values: F32 | F64, starts: I64) -> float:
    """Returns the smallest value."""
    value: float = smallest(values, starts[-2])
    return value


@jit
def winner(values: F32 | F64, starts: I64) -> int:
    """Returns the position of the smallest value, the first of equals."""
    at = 0
    for number in range(starts.shape[0] - 2, -1, -1):
        at = FAN * at + place(values, starts[number] + FAN * at)
    return at


@jit
def withdraw(values: F32 | F64, starts: I64, at: int) -> None:
    """Takes the value at a position away: inf from now on."""
    least = np.inf
    for number in range(starts.shape[0] - 1):
        group, lane = at >> 4, at & (FAN - 1)  # FAN is 2^4
        least = replace(values, starts[number] + FAN * group, lane, least)
        at = group
