"""Numba kernels that answer rows in one pass: walk the tree, prove the order of what was found, write it."""

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.screens.tree.layout import Boxes, cell_of, kernel
from janelia_core.ml._knn.screens.tree.walk import Wanted, limit, query
from janelia_core.ml._runtime.arrays import F32, F64, I32, I64
from janelia_core.ml._simd.gaps import Way, with_gap
from janelia_core.ml._simd.packet_keys import LEAF, NO_ID
from janelia_core.ml._simd.sorted_lists import BIAS, EMPTY, key_of

_NOT_TINY = ((127 - 80 << 23) + BIAS) << 32  # an entry with a key of 2^-80


class AskedRows(NamedTuple):
    """The r rows asked for.

    Attributes:
        rows: (r,) which rows of x.
        columns: (r,) where in memory their answers go.
        own: (r,) what the rows are called among `numbers`: left out, and k - 1 are written; empty: none is.
    """

    rows: I64
    columns: I64
    own: I64


class Errors(NamedTuple):
    """What keys and distances prove of D, the exact order value of a pair.

    Attributes:
        relative: D is at least (key - absolute) * relative.
        absolute: See relative.
        distance: `bounds.DistanceBound`: D lies between far (1 -+ relative) -+ absolute.
        exact: Float64 distances are D.
        live: Points of the tree: a list as long excludes nothing.
    """

    relative: float
    absolute: float
    distance: tuple[float, float]
    exact: bool
    live: int


class Output(NamedTuple):
    """Where answers go.

    Attributes:
        memory: Of (k, n_smps), written in columns without doubt, nearest first.
        strides: Its strides.
        numbers: What the centres are called there; empty: by their positions.
    """

    memory: I64
    strides: tuple[int, int]
    numbers: I64


@kernel
def measure(
    way: Way, z: F32, tree_ids: I32, row: int, best: I64, x: F32, places: I64, distances: F64, ids: I64
) -> None:
    """Write a row's entries by (float64 distance, position among centres); EMPTY ones are infinitely far.

    For float32 coordinates that are the stored values. Reads centres in the tree, where the walk has just left them in
    cache; places are theirs.
    """
    d, last, ascending = x.shape[1], tree_ids.shape[0] - 1, True
    for slot in range(best.shape[1]):
        place = min(best[row, slot] & NO_ID, last)
        base, total = cell_of(place, d), 0.0
        for q in range(d):
            diff = np.float64(x[row, q]) - np.float64(z[base + q * LEAF])
            total = with_gap(way, total, diff)
        if best[row, slot] == EMPTY:
            total = np.inf
        distances[slot], ids[slot], places[slot] = total, tree_ids[place], place
        ascending &= slot == 0 or total > distances[slot - 1]
    if not ascending:  # keys are in order, so distances nearly always are
        _sort(distances, ids, places)


@kernel
def _sort(distances: F64, ids: I64, places: I64) -> None:
    for slot in range(1, distances.shape[0]):
        total, j, place, s = distances[slot], ids[slot], places[slot], slot
        while s > 0 and (distances[s - 1] > total or (distances[s - 1] == total and ids[s - 1] > j)):
            distances[s], ids[s], places[s] = distances[s - 1], ids[s - 1], places[s - 1]
            s -= 1
        distances[s], ids[s], places[s] = total, j, place


@kernel
def _are_identical(z: F32, d: int, a: int, b: int) -> bool:
    """Whether two places of the tree hold the same point."""
    one, other, differing = cell_of(a, d), cell_of(b, d), 0
    for q in range(d):
        differing += z[one + q * LEAF] != z[other + q * LEAF]
    return differing == 0


@kernel
def answer_rows(
    tree: Boxes, x: F32, asked: AskedRows, wanted: Wanted, errors: Errors, output: Output, doubtful: I64
) -> int:
    """Search, verify, certify and settle rows of x in one pass, and return how many are left in doubt.

    Args:
        tree: The tree.
        x: (n, d) stored values.
        asked: Which rows.
        wanted: Their k neighbours.
        errors: What proves them.
        output: Where they go.
        doubtful: (r,), of which the first are written: places in `asked.rows` that are in doubt.
    """
    rows, columns, own = asked
    out, strides, numbers = output
    (k, w, by_id, way, reach), (r,), d, width = wanted, rows.shape, tree.d, wanted.k - (len(own) > 0)
    block, best = np.empty((r, d), np.float32), np.empty((r, w), np.int64)
    places, distances, ids = np.empty(w, np.int64), np.empty(w), np.empty(w, np.int64)
    for t in range(r):
        for q in range(d):
            block[t, q] = x[rows[t], q]
    query(tree, block, wanted, best, np.zeros(3, np.int64))
    z, tree_ids = tree.z, tree.ids  # not row by row: reading a field of a tuple of arrays counts references
    relative, absolute, _, _, live = errors
    failed = 0
    for t in range(r):
        least = (limit(best[t, k - 1], best[t, w - 1], reach) - absolute) * relative
        excluded = np.inf if w == live and best[t, w - 1] != EMPTY else least
        if by_id:
            proven = best[t, w - 1] != EMPTY
            for slot in range(k):
                ids[slot] = best[t, slot] & NO_ID
        elif _in_order(best, t, k, d) and (key_of(best[t, k - 1]) + absolute) * (2.0 - relative) < excluded:
            proven = True
            for slot in range(k):
                ids[slot] = tree_ids[best[t, slot] & NO_ID]
        else:
            measure(way, z, tree_ids, t, best, block, places, distances, ids)
            proven = are_settled(z, d, k, places, distances, errors, excluded)
        if proven:
            mine, place = own[t] if len(own) else -1, columns[t] * strides[1]
            last = place + width * strides[0]
            for slot in range(k):
                number = numbers[ids[slot]] if len(numbers) else ids[slot]
                if number != mine and place != last:
                    out[place] = number
                    place += strides[0]
        else:
            doubtful[failed] = t
            failed += 1
    return failed


@kernel
def _in_order(best: I64, row: int, k: int, d: int) -> bool:
    """Whether keys alone prove the order of a row's first k entries, and that those listed behind are farther.

    Entries whose high halves differ by m have keys that differ by a factor of at least 1 + m u, u = 2^-24. A key is
    within (1 -+ u)^(d + 2) of D, but for what underflows, which is nothing beside a key of 2^-80.
    """
    gap, in_order = 4 * (d + 3) << 32, best.shape[1] == 1 or best[row, 1] > _NOT_TINY
    for slot in range(1, min(best.shape[1], k + 1)):
        in_order &= best[row, slot] - best[row, slot - 1] > gap
    return bool(in_order)


@kernel
def are_settled(z: F32, d: int, k: int, places: I64, distances: F64, errors: Errors, excluded: float) -> bool:
    """Whether sorted float64 distances prove the first k: apart or of identical points, below what is excluded."""
    relative, absolute = errors.distance
    settled = distances[k - 1] * (1.0 + relative) + absolute < excluded
    # Copies at place k hide no nearer one behind them: the look goes on to the first that is apart.
    slot, overlaps = 1, True
    while settled and slot < distances.shape[0] and (slot <= k or overlaps):
        gap = distances[slot] * (1.0 - relative) - absolute
        overlaps = not (errors.exact or gap > distances[slot - 1] * (1.0 + relative) + absolute)
        settled = not overlaps or _are_identical(z, d, places[slot], places[slot - 1])
        slot += 1
    return bool(settled)
