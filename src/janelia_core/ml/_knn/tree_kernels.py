"""Numba kernels that search the tree: order rows, query packets of rows, verify what they found.

All release the GIL, none starts a thread, and none writes to the tree.
"""

import numpy as np

from janelia_core.ml._knn.tree_build import F32, F64, I8, I32, I64, STACK, Tree, kernel
from janelia_core.ml._knn.tree_lists import BIAS, CHUNK, EMPTY, first_lists, key_of, merge, write_entries
from janelia_core.ml._knn.tree_simd import LEAF, NO_ID, PACKET, bits_set, box_hits, leaf_hits, lowest_bit

BOXES, SCANS, HITS = 0, 1, 2  # what `query` counts
_BATCH = 8  # rows routed together, so that their chains of loads overlap
_NOT_TINY = ((127 - 80 << 23) + BIAS) << 32  # an entry with a key of 2^-80
Reach = tuple[np.float32, np.float32]  # a factor and a summand


@kernel
def halving_axes(tree: Tree, d: int, axes: I8) -> None:
    """Write along which axes (n_leaves, h) each leaf's box is to be halved: always along its widest side then."""
    boxes, first = tree.boxes, tree.first
    sides = np.empty(d, np.float32)
    for node in range(first.shape[0]):
        if tree.axis[node] != -1:
            continue
        for q in range(d):
            sides[q] = boxes[(node * d + q) * 2 + 1] - boxes[(node * d + q) * 2]
        for halving in range(axes.shape[1]):
            widest = np.argmax(sides)
            axes[first[node], halving] = widest
            sides[widest] *= np.float32(0.5)


@kernel
def route(tree: Tree, x: F32, axes: I8, cells: I32) -> None:
    """Write the cell in which each row of x (r, d) lies: a leaf's box, halved along its axes (n_leaves, h)."""
    first, span, axis, at, boxes = tree.first, tree.span, tree.axis, tree.at, tree.boxes
    d, halvings = x.shape[1], axes.shape[1]
    nodes = np.empty(_BATCH, np.int64)
    places = np.empty(d, np.float32)
    for row in range(0, x.shape[0], _BATCH):
        used = min(_BATCH, x.shape[0] - row)
        nodes[:] = 0
        moving = True
        while moving:
            moving = False
            for t in range(used):
                node = nodes[t]
                if axis[node] >= 0:
                    moving = True
                    right = np.int64(x[row + t, axis[node]] >= at[node])
                    nodes[t] = node + 1 + right * (2 * ((span[node] + 1) // 2) - 1)
        for t in range(used):
            leaf, box = first[nodes[t]], nodes[t] * 2 * d
            cell = np.int64(leaf)
            for q in range(d if halvings else 0):
                lo, hi = boxes[box + 2 * q], boxes[box + 2 * q + 1]
                places[q] = (x[row + t, q] - lo) / (hi - lo)  # NaN and infinity are as good a place as any
            for halving in range(halvings):
                q = axes[leaf, halving]
                place = places[q] * np.float32(2.0)
                upper = place >= np.float32(1.0)
                places[q] = place - np.float32(upper)
                cell = 2 * cell + upper
            cells[row + t] = cell


@kernel
def order_by_cell(cells: I32, n_cells: int, order: I64) -> None:
    """Counting sort: write the rows in the order of their cells."""
    start = np.zeros(n_cells + 1, np.int32)
    for row in range(cells.shape[0]):
        start[cells[row] + 1] += 1
    for cell in range(n_cells):
        start[cell + 1] += start[cell]
    for row in range(cells.shape[0]):
        cell = cells[row]
        order[start[cell]] = row
        start[cell] += 1


@kernel
def limit(kth: int, last: int, reach: Reach) -> float:
    """Return what keys of a list must stay below, given its k-th and its last entry."""
    stretched: float = key_of(kth) * reach[0] + reach[1]
    full: float = key_of(last)
    return stretched if stretched < full else full


@kernel
def limits(best: I64, k: int, reach: Reach, out: F64) -> None:
    """Write for each list what `query` has cut nothing below."""
    for row in range(best.shape[0]):
        out[row] = limit(best[row, k - 1], best[row, best.shape[1] - 1], reach)


@kernel
def _scan(
    z: F32,
    ids: I32,
    leaf: int,
    mask: int,
    packet: F32,
    d: int,
    by_id: bool,
    k: int,
    w: int,
    chunks: int,
    reach: Reach,
    lists: I64,
    key_limits: F32,
    id_limits: I32,
    keys: F32,
    hits: I64,
    entries: I64,
    work: I64,
) -> None:
    """Scan a leaf for the rows of the mask: one vector of keys a row, then hits merged into the lists that have any."""
    changed = 0
    work[SCANS] += bits_set(mask)
    while mask != 0:
        lane = lowest_bit(mask)
        mask &= mask - 1
        hits[lane] = leaf_hits(z, leaf, packet, lane, d, ids, key_limits, id_limits, keys)
        changed |= (hits[lane] != 0) << lane
    while changed != 0:
        lane = lowest_bit(changed)
        changed &= changed - 1
        work[HITS] += bits_set(hits[lane])
        write_entries(keys, lane, ids, leaf, by_id, entries)
        merge(lists, lane * chunks * CHUNK, chunks, entries, hits[lane])
        _tighten(lists, lane, chunks, by_id, k, w, reach, key_limits, id_limits)


@kernel
def _tighten(
    lists: I64,
    lane: int,
    chunks: int,
    by_id: bool,
    k: int,
    w: int,
    reach: Reach,
    key_limits: F32,
    id_limits: I32,
) -> None:
    """Set a row's limits by its list."""
    base = lane * chunks * CHUNK
    last = lists[base + w - 1]
    key_limits[lane] = limit(lists[base + k - 1], last, reach)
    if by_id:
        id_limits[lane] = last & NO_ID


@kernel
def _aligned(words: int) -> I64:
    """Return an array that begins where a line of the cache does, so that vectors do not straddle lines."""
    room = np.empty(words + 7, np.int64)
    start = (-room.ctypes.data % 64) // 8
    return room[start : start + words]


@kernel
def query(tree: Tree, x: F32, by_id: bool, k: int, reach: Reach, best: I64, work: I64) -> None:
    """Fill best (r, w) with the w lowest entries of each row of x (r, d), ascending, EMPTY at the end.

    PACKET adjacent rows share a walk; each has its own limit: the w-th key so far, or the k-th, stretched by `reach`,
    where that is lower; what is not below it may be missing. Without by_id, id is the position in the tree, and what
    ties with the limit may be cut; with it, order is by (key, position among centres). Adds to work (3,) what it took:
    box tests of packets, leaf scans of rows and hits merged after a packet's first leaf.
    """
    z, ids, boxes, first, spans, axes, at, lowest = tree
    (r, w), d = best.shape, x.shape[1]
    chunks = (w + CHUNK - 1) // CHUNK
    lists, entries, hits = _aligned(PACKET * chunks * CHUNK), _aligned(LEAF), np.empty(PACKET, np.int64)
    packet, keys = _aligned(d * PACKET // 2).view(np.float32), _aligned(PACKET * LEAF // 2).view(np.float32)
    key_limits, id_limits = _aligned(PACKET // 2).view(np.float32), _aligned(PACKET // 2).view(np.int32)
    stack, masks, all_lanes = np.empty(STACK, np.int64), np.empty(STACK, np.int64), (1 << PACKET) - 1
    for row in range(0, r, PACKET):
        used = min(PACKET, r - row)
        lists[:] = EMPTY
        for lane in range(PACKET):
            key_limits[lane] = np.inf if lane < used else -1.0
            id_limits[lane] = NO_ID if by_id else -1
            for q in range(d):
                packet[q * PACKET + lane] = x[row + min(lane, used - 1), q]
        stack[0], masks[0], top, untouched = 0, all_lanes, 1, True
        while top > 0:
            top -= 1
            node, mask = stack[top], masks[top]
            while mask != 0 and axes[node] >= 0:
                work[BOXES] += 2
                left, right = node + 1, node + 2 * ((spans[node] + 1) // 2)
                both = box_hits(boxes, left, right, lowest, packet, d, key_limits, id_limits)
                # The nearer child next, the other later. No branch: either is a toss-up.
                ahead = np.int64(packet[axes[node] * PACKET + PACKET // 2] >= at[node])
                node, stack[top] = left + ahead * (right - left), right - ahead * (right - left)
                mask, masks[top] = both >> PACKET * ahead & all_lanes, both >> PACKET * (1 - ahead) & all_lanes
                top += masks[top] != 0
            span = spans[node]
            for leaf in range(first[node], first[node] + (span if mask != 0 else 0)):
                if untouched:
                    untouched = False
                    first_lists(z, leaf, packet, d, ids, by_id, chunks, lists)
                    for lane in range(used):
                        _tighten(lists, lane, chunks, by_id, k, w, reach, key_limits, id_limits)
                    continue
                _scan(
                    z,
                    ids,
                    leaf,
                    mask,
                    packet,
                    d,
                    by_id,
                    k,
                    w,
                    chunks,
                    reach,
                    lists,
                    key_limits,
                    id_limits,
                    keys,
                    hits,
                    entries,
                    work,
                )
                if span > 1:  # a pile of identical points: stop as soon as nobody needs another copy
                    mask = box_hits(boxes, node, node, lowest, packet, d, key_limits, id_limits) & all_lanes
                    if mask == 0:
                        break
        for lane in range(used):
            for slot in range(w):
                best[row + lane, slot] = lists[lane * chunks * CHUNK + slot]


@kernel
def unpack(ids: I32, best: I64, by_id: bool, indices: I64) -> None:
    """Write the positions among the centres of listed entries, -1 in empty slots."""
    for row in range(best.shape[0]):
        for slot in range(best.shape[1]):
            entry = best[row, slot]
            indices[row, slot] = -1 if entry == EMPTY else ((entry & NO_ID) if by_id else ids[entry & NO_ID])


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
    tree: Tree,
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
    out: I64,
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
        out: (k, n_smps), written in columns without doubt, nearest first.
        doubtful: (r,), of which the first are written: places in `rows` that are in doubt.
    """
    (r,), d, k = rows.shape, x.shape[1], out.shape[0]
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
            for slot in range(k):
                out[slot, columns[t]] = numbers[ids[slot]] if len(numbers) else ids[slot]
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
    for slot in range(1, min(distances.shape[0], k + 1)):
        gap = distances[slot] * (1.0 - relative) - absolute
        apart = exact or gap > distances[slot - 1] * (1.0 + relative) + absolute
        settled = settled and (apart or _identical(z, d, places[slot], places[slot - 1]))
    return bool(settled)
