"""Numba kernels that answer rows in one pass: walk the tree, prove the order of what was found, write it."""

import numpy as np

from janelia_core.ml._knn.screens.tree.hits import LEAF, NO_ID
from janelia_core.ml._knn.screens.tree.layout import BoxTree, kernel
from janelia_core.ml._knn.screens.tree.lists import BIAS, EMPTY, key_of
from janelia_core.ml._knn.screens.tree.walk import Reach, limit, query
from janelia_core.ml._runtime.arrays import F32, F64, I32, I64

_NOT_TINY = ((127 - 80 << 23) + BIAS) << 32  # an entry with a key of 2^-80


@kernel
def _measure(z: F32, tree_ids: I32, row: int, best: I64, x: F32, places: I64, distances: F64, ids: I64) -> None:
    """Write a row's entries by (float64 distance, position among centres); anything where entries are EMPTY.

    For float32 coordinates that are the stored values. Reads centres in the tree, where the walk has just left them in
    cache; places are theirs.
    """
    d, last, ascending = x.shape[1], tree_ids.shape[0] - 1, True
    for slot in range(best.shape[1]):
        place = min(best[row, slot] & NO_ID, last)
        base = (place // LEAF) * d * LEAF + place % LEAF
        total = 0.0
        for q in range(d):
            diff = np.float64(x[row, q]) - np.float64(z[base + q * LEAF])
            total += diff * diff
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
def _identical(z: F32, d: int, a: int, b: int) -> bool:
    """Whether two places of the tree hold the same point."""
    one, other = a // LEAF * d * LEAF + a % LEAF, b // LEAF * d * LEAF + b % LEAF
    differing = 0
    for q in range(d):
        differing += z[one + q * LEAF] != z[other + q * LEAF]
    return differing == 0


@kernel
def answer(
    tree: BoxTree,
    x: F32,
    rows: I64,
    columns: I64,
    numbers: I64,
    by_id: bool,
    exact: bool,
    w: int,
    reach: Reach,
    live: int,
    key_error: tuple[float, float],
    distance_error: tuple[float, float],
    k: int,
    own: I64,
    out: I64,
    at: tuple[int, int],
    doubtful: I64,
) -> int:
    """Search, verify, certify and settle rows of x in one pass, and return how many are left in doubt.

    Args:
        tree: The tree.
        x: (n, d) stored values; rows (r,): which of them; columns (r,): where in `out` their answers go.
        rows: See x.
        columns: See x.
        numbers: What the centres are called in `out`; empty: by their positions.
        by_id: Keys are exact, as for `query`.
        exact: Float64 distances are.
        w: Entries of a list.
        reach: As for `query`.
        live: Points of the tree.
        key_error: D is at least (key - absolute) * relative.
        distance_error: `bounds.DistanceBound`: D lies between far (1 -+ relative) -+ absolute.
        k: Neighbours to search.
        own: (r,) what the rows are called among `numbers`: left out, and k - 1 are written; empty: none is.
        out: Memory of (k, n_smps), written in columns without doubt, nearest first.
        at: Its strides.
        doubtful: (r,), of which the first are written: places in `rows` that are in doubt.
    """
    (r,), d, width = rows.shape, x.shape[1], k - (len(own) > 0)
    block, best = np.empty((r, d), np.float32), np.empty((r, w), np.int64)
    places, distances, ids = np.empty(w, np.int64), np.empty(w), np.empty(w, np.int64)
    for t in range(r):
        for q in range(d):
            block[t, q] = x[rows[t], q]
    query(tree, block, by_id, k, reach, best, np.zeros(3, np.int64))
    z, tree_ids = tree.z, tree.ids  # not row by row: reading a field of a tuple of arrays counts references
    failed = 0
    for t in range(r):
        least = (limit(best[t, k - 1], best[t, w - 1], reach) - key_error[1]) * key_error[0]
        # A list as long as the tree has points left excludes nothing.
        excluded = np.inf if w == live and best[t, w - 1] != EMPTY else least
        if by_id:
            proven = best[t, w - 1] != EMPTY
            for slot in range(k):
                ids[slot] = best[t, slot] & NO_ID
        elif _in_order(best, t, k, d) and (key_of(best[t, k - 1]) + key_error[1]) * (2.0 - key_error[0]) < excluded:
            proven = True
            for slot in range(k):
                ids[slot] = tree_ids[best[t, slot] & NO_ID]
        else:
            _measure(z, tree_ids, t, best, block, places, distances, ids)
            proven = _settled(z, d, k, exact, places, distances, distance_error, excluded)
        if proven:
            mine, place = own[t] if len(own) else -1, columns[t] * at[1]
            last = place + width * at[0]
            for slot in range(k):
                number = numbers[ids[slot]] if len(numbers) else ids[slot]
                if number != mine and place != last:
                    out[place] = number
                    place += at[0]
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
def _settled(
    z: F32,
    d: int,
    k: int,
    exact: bool,
    places: I64,
    distances: F64,
    distance_error: tuple[float, float],
    excluded: float,
) -> bool:
    """Whether sorted float64 distances prove the first k: apart or of identical points, below what is excluded."""
    relative, absolute = distance_error
    settled = distances[k - 1] * (1.0 + relative) + absolute < excluded
    # Copies at place k hide no nearer one behind them: the look goes on to the first that is apart.
    slot, overlaps = 1, True
    while settled and slot < distances.shape[0] and (slot <= k or overlaps):
        gap = distances[slot] * (1.0 - relative) - absolute
        overlaps = not (exact or gap > distances[slot - 1] * (1.0 + relative) + absolute)
        settled = not overlaps or _identical(z, d, places[slot], places[slot - 1])
        slot += 1
    return bool(settled)
