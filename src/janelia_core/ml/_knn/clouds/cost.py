"""Which clouds are searched by all their distances, what that takes, and how they are shared out: pure arithmetic."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from janelia_core.ml._knn.problem import PER_WORKER, clamp
from janelia_core.ml._runtime.arrays import B8, I64

GROUPS = 1 << 12
"""Groups that are shared out at a time."""
LONGEST_LIST = 256
"""Slots of the lists of rows with many near-ties."""
_MOST_CTRS = 1 << 10  # of a cloud: of more, a tree or a dense screen leaves most out sooner,
_MOST_TABLE = 1 << 15  # and of so many coordinates, too
_MOST_PAIRS = 1 << 22  # of a cloud: more rows are worth being shared out by themselves
_MOST_SLOTS, _CTRS_LISTED_WHOLE = 64, 256
_FEWEST_WORK = 1 << 19  # coordinates and slots of pairs from which a thread is worth its start: some 0.3 ms
_ROWS_AND_BLOCK = 24  # rows and spare centres beside those of a cloud
LANES = 16
"""Numbers of each slot of the lists."""
_SHARES = 4  # for each worker


def suited(groups: I64, d: int, k: int, budget: int, copied: bool) -> B8:
    """Tell which groups (n_groups, 5) are searched by all their distances; copied: of their values, in float64."""
    n, m = groups[:, 1] - groups[:, 0], groups[:, 3] - groups[:, 2]
    listed = (m <= _CTRS_LISTED_WHOLE) | (k < _MOST_SLOTS)
    fits = 8 * (numbers(d, m) + copied * d * (n + m)) <= budget // 4
    small: B8 = (m <= _MOST_CTRS) & (m * d <= _MOST_TABLE) & (n * m <= _MOST_PAIRS) & listed & fits
    return small


def numbers(d: int, m: Any) -> Any:
    """Return how many numbers are held of the rows in work and of m centres."""
    return d * (m + _ROWS_AND_BLOCK)


def slots(k: int, m: int) -> int:
    """Return how long the longest list is among m centres."""
    return max(min(k + 1, m), min(LONGEST_LIST, m), 1)


def work(groups: I64, d: int, k: int) -> I64:
    """Return what groups take: a vector operation or two for each coordinate, and each slot of a list."""
    n, m = groups[:, 1] - groups[:, 0], groups[:, 3] - groups[:, 2]
    taken: I64 = n * m * (d + 2 + np.minimum(k + 1, m))
    return taken


def crew(total: int, threads: int, budget: int) -> int:
    """Return how many workers share so much work."""
    return clamp(min(total // _FEWEST_WORK, budget // PER_WORKER), threads)


def shares(works: I64, workers: int, least: int) -> list[slice]:
    """Cut groups into parts of about the same work, several for each of several workers, and at least so many."""
    count = min(len(works), max(least, _SHARES * workers if workers > 1 else 1))
    so_far = np.cumsum(works)
    cuts = np.searchsorted(so_far, so_far[-1] * np.arange(1, count) / count)
    ends = np.unique(np.concatenate([[0], cuts + 1, [len(works)]]))
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
