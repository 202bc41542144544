"""Numba kernels that search the tree: order rows, query packets of rows, verify what they found.

All release the GIL, none starts a thread, and none writes to the tree.
"""

import numpy as np

from janelia_core.ml._knn.tree_build import F32, F64, I8, I32, I64, NO_ID, STACK, Tree, kernel
from janelia_core.ml._knn.tree_simd import CHUNK, LEAF, PACKET, box_hits, leaf_hits, lowest_bit, merge

# A list entry is (key bits + BIAS) << 32 | id: ascending as integers and, because BIAS makes them normal
# numbers, as float64 too, whether or not the thread flushes subnormals.
BIAS = 1 << 20
EMPTY = ((0x7F800000 + BIAS) << 32) | NO_ID
BOXES, SCANS, HITS = 0, 1, 2  # what `query` counts
_BATCH = 8  # rows routed together, so that their chains of loads overlap


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
            q = np.argmax(sides)
            axes[first[node], halving] = q
            sides[q] *= np.float32(0.5)


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
def _scan(
    z: F32,
    ids: I32,
    leaf: int,
    mask: int,
    packet: F32,
    d: int,
    by_id: bool,
    w: int,
    chunks: int,
    lists: I64,
    key_limits: F32,
    limit_bits: I32,
    id_limits: I32,
    keys: F32,
    bits: I32,
    fresh: I64,
    work: I64,
) -> None:
    """Scan a leaf for the rows of the mask: one vector of keys a row, hits merged into its list."""
    while mask != 0:
        work[SCANS] += 1
        lane = lowest_bit(mask)
        mask &= mask - 1
        hits = leaf_hits(z, leaf * LEAF * d, packet, lane, d, ids, leaf * LEAF, key_limits[lane], id_limits[lane], keys)
        if hits == 0:
            continue
        base, count = lane * chunks * CHUNK, 0
        while hits != 0:
            t = lowest_bit(hits)
            hits &= hits - 1
            position = leaf * LEAF + t
            fresh[count] = ((np.int64(bits[t]) + BIAS) << 32) | (ids[position] if by_id else position)
            count += 1
        work[HITS] += count
        merge(lists, base, chunks, fresh, count)
        last = lists[base + w - 1]
        limit_bits[lane] = (last >> 32) - BIAS
        if by_id:
            id_limits[lane] = last & NO_ID


@kernel
def query(tree: Tree, x: F32, by_id: bool, best: I64, work: I64) -> None:
    """Fill best (r, w) with the w lowest entries of each row of x (r, d), ascending, EMPTY at the end.

    PACKET adjacent rows share a walk; each has its own limit, the w-th entry so far. Without by_id, id is the
    position in the tree, and what ties with the limit may be cut; with it, order is by (key, position among
    centres). Adds to work (3,) what it took: box tests of packets, leaf scans of rows, hits merged.
    """
    z, ids, boxes, first, spans, axes, at, lowest = tree
    (r, w), d = best.shape, x.shape[1]
    chunks = (w + CHUNK - 1) // CHUNK
    lists, fresh = np.empty(PACKET * chunks * CHUNK, np.int64), np.empty(LEAF, np.int64)
    packet, keys = np.empty(d * PACKET, np.float32), np.empty(LEAF, np.float32)
    key_limits, id_limits = np.empty(PACKET, np.float32), np.full(PACKET, -1, np.int32)
    bits, limit_bits = keys.view(np.int32), key_limits.view(np.int32)
    stack = np.empty(STACK, np.int64)
    for row in range(0, r, PACKET):
        used = min(PACKET, r - row)
        lists[:] = EMPTY
        for lane in range(PACKET):
            key_limits[lane] = np.inf if lane < used else -1.0
            id_limits[lane] = NO_ID if by_id else -1
            for q in range(d):
                packet[q * PACKET + lane] = x[row + min(lane, used - 1), q]
        stack[0], top = 0, 1
        while top > 0:
            top -= 1
            node = stack[top]
            work[BOXES] += 1
            mask = box_hits(boxes, node * 2 * d, lowest[node], packet, d, key_limits, id_limits)
            if mask == 0:
                continue
            axis, span = axes[node], spans[node]
            if axis >= 0:
                left, right = node + 1, node + 2 * ((span + 1) // 2)
                ahead = packet[axis * PACKET + PACKET // 2] >= at[node]
                stack[top] = left if ahead else right
                stack[top + 1] = right if ahead else left
                top += 2
                continue
            for leaf in range(first[node], first[node] + span):
                _scan(
                    z,
                    ids,
                    leaf,
                    mask,
                    packet,
                    d,
                    by_id,
                    w,
                    chunks,
                    lists,
                    key_limits,
                    limit_bits,
                    id_limits,
                    keys,
                    bits,
                    fresh,
                    work,
                )
                if span > 1:  # a pile of identical points: stop as soon as nobody needs another copy
                    mask = box_hits(boxes, node * 2 * d, lowest[node], packet, d, key_limits, id_limits)
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
        live: Points of the tree.
        key_error: D is at least (key - absolute) * relative.
        distance_error: `bounds.DistanceBound`: D lies between far (1 -+ relative) -+ absolute.
        out: (k, n_smps), written in columns without doubt, nearest first.
        doubtful: (r,), of which the first are written: places in `rows` that are in doubt.
    """
    (r,), d, k = rows.shape, x.shape[1], out.shape[0]
    block, best = np.empty((r, d), np.float32), np.empty((r, w), np.int64)
    places, distances, ids = np.empty(w, np.int64), np.empty(w), np.empty(w, np.int64)
    bits = np.empty(1, np.int32)
    key = bits.view(np.float32)
    for t in range(r):
        for q in range(d):
            block[t, q] = x[rows[t], q]
    query(tree, block, by_id, best, np.zeros(3, np.int64))
    z, tree_ids = tree.z, tree.ids  # not row by row: reading a field of a tuple of arrays counts references
    relative, absolute = distance_error
    failed = 0
    for t in range(r):
        bits[0] = (best[t, w - 1] >> 32) - BIAS
        proven = best[t, w - 1] != EMPTY
        if by_id:
            for slot in range(k):
                ids[slot] = best[t, slot] & NO_ID
        else:
            _measure(z, tree_ids, t, best, block, places, distances, ids)
            # A list as long as the tree has points left excludes nothing.
            upper = distances[k - 1] * (1.0 + relative) + absolute
            proven = proven and (w == live or upper < (key[0] - key_error[1]) * key_error[0])
            for slot in range(1, min(w, k + 1)):
                gap = distances[slot] * (1.0 - relative) - absolute
                apart = exact or gap > distances[slot - 1] * (1.0 + relative) + absolute
                proven = proven and (apart or _identical(z, d, places[slot], places[slot - 1]))
        if proven:
            for slot in range(k):
                out[slot, columns[t]] = numbers[ids[slot]] if len(numbers) else ids[slot]
        else:
            doubtful[failed] = t
            failed += 1
    return failed
