"""Numba kernels that walk the tree, packets of rows together.

All release the GIL, none starts a thread, and none writes to the tree.
"""

import numpy as np

from janelia_core.ml._knn.screens.tree.hits import LEAF, NO_ID, PACKET, bits_set, box_hits, leaf_hits, lowest_bit
from janelia_core.ml._knn.screens.tree.layout import STACK, BoxTree, kernel
from janelia_core.ml._knn.screens.tree.lists import CHUNK, EMPTY, first_lists, key_of, merge, write_entries
from janelia_core.ml._runtime.arrays import F32, F64, I32, I64

BOXES, SCANS, HITS = 0, 1, 2  # what `query` counts
Reach = tuple[np.float32, np.float32]  # a factor and a summand


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
def query(tree: BoxTree, x: F32, by_id: bool, k: int, reach: Reach, best: I64, work: I64) -> None:
    """Fill best (r, w) with the w lowest entries of each row of x (r, d), ascending, EMPTY at the end.

    PACKET adjacent rows share a walk; each has its own limit: the w-th key so far, or the k-th, stretched by `reach`,
    where that is lower; what is not below it may be missing. Without by_id, id is the position in the tree, and what
    ties with the limit may be cut; with it, order is by (key, position among centres). Adds to work (3,) what it took:
    box tests of packets, leaf scans of rows and hits merged after a packet's first leaf.
    """
    _, _, z, ids, boxes, first, spans, axes, at, lowest = tree
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
