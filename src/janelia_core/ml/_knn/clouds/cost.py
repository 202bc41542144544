"""Which clouds are searched by all their distances, what that takes, and how they are shared out: pure arithmetic."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from janelia_core.ml._knn.problem import PER_WORKER, clamp
from janelia_core.ml._runtime.arrays import B8, I64

_GROUPS, _PER_GROUP = 1 << 16, 1 << 10  # groups shared out at a time at most, and bytes of memory for each
LONGEST_LIST = 256
"""Slots of the lists of rows with many near-ties."""
_MOST_CTRS, _MOST_OF_FEW_COLUMNS = 2048, 1536  # of a cloud: of more, a dense screen or a tree leaves most out sooner,
_FEW_COLUMNS = 8
_MOST_TABLE, _MOST_DOUBLES = 1 << 18, 1 << 15  # coordinates of its centres, likewise: float32, and others
_MOST_PAIRS = 1 << 22  # of a cloud: more rows are worth being shared out by themselves
_MOST_SLOTS, _CTRS_LISTED_WHOLE = 64, 256
_FEWEST_WORK = 1 << 21  # coordinates and slots of pairs from which a thread is worth its start: some 0.2 ms
_MOST_UNEVEN = 1.5  # times what a worker has in the mean, a cloud of more is shared out by itself
_ROWS_AND_BLOCK = 24  # rows and spare centres beside those of a cloud
_LANES = 16  # rows in work
_SHARES = 4  # for each worker


def groups_at_once(budget: int) -> int:
    """Return how many groups are shared out at a time: what is worked out of each takes some hundred bytes."""
    return clamp(budget // _PER_GROUP, _GROUPS)


def suited(groups: I64, d: int, k: int, budget: int, single: bool, copied: bool) -> B8:
    """Tell which groups (n_groups, 5) are searched by all their distances.

    Args:
        groups: Rows and centres.
        d: Columns.
        k: How many are wanted.
        budget: Bytes of workspace.
        single: Values are float32.
        copied: Of all values copies are made.
    """
    n, m = groups[:, 1] - groups[:, 0], groups[:, 3] - groups[:, 2]
    few = m <= (_MOST_OF_FEW_COLUMNS if d < _FEW_COLUMNS else _MOST_CTRS)
    few &= (m * d <= (_MOST_TABLE if single else _MOST_DOUBLES)) & (n * m <= _MOST_PAIRS)
    listed = (m <= _CTRS_LISTED_WHOLE) | (k < _MOST_SLOTS)
    suited: B8 = few & listed & (8 * (numbers(d, m) + distances(m) + copied * d * (n + m)) <= budget // 4)
    return suited


def even(works: I64, workers: int) -> B8:
    """Tell which groups are not so large that one worker would have most to do."""
    small: B8 = works * workers <= _MOST_UNEVEN * works.sum()
    return small


def numbers(d: int, m: Any) -> Any:
    """Return how many numbers are held of the rows in work and of m centres."""
    return d * (m + _ROWS_AND_BLOCK)


def distances(m: Any) -> Any:
    """Return how many numbers are held of the distances to m centres, and of the least of some of these."""
    return _LANES * (m + m // 16 + 10)


def list_numbers(k: int, m: int) -> int:
    """Return how many numbers are held of the longest lists among m centres."""
    return _LANES * (1 + max(min(k + 1, m), min(LONGEST_LIST, m), 1))


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


def span(groups: I64) -> tuple[I64, I64]:
    """Return where rows and centres of groups begin, and where they end, with all that lies between."""
    return groups[:, (0, 2)].min(axis=0), groups[:, (1, 3)].max(axis=0)


def close(groups: I64, parts: list[slice], most: int) -> list[slice]:
    """Cut parts so that at most so many rows and centres are from the first to the last of each, or it is one group.

    Groups may lie far apart: between them is padding, or what is searched otherwise.
    """
    cut = []
    for part in parts:
        start, (begin, end) = part.start, span(groups[part])
        if (end - begin).sum() > most:
            begin, end = groups[start, (0, 2)], groups[start, (1, 3)]
            for at in range(start + 1, part.stop):
                begin, end = np.minimum(begin, groups[at, (0, 2)]), np.maximum(end, groups[at, (1, 3)])
                if (end - begin).sum() > most:
                    cut.append(slice(start, at))
                    start, begin, end = at, groups[at, (0, 2)], groups[at, (1, 3)]
        cut.append(slice(start, part.stop))
    return cut
