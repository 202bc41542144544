"""Numba kernels that walk the tree, packets of rows together.

All release the GIL, none starts a thread, and none writes to the tree.
"""

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.screens.tree.layout import STACK, Boxes, kernel, right_child
from janelia_core.ml._runtime.arrays import F32, F64, I32, I64
from janelia_core.ml._simd.bits import bits_set, first_bit
from janelia_core.ml._simd.gaps import Way
from janelia_core.ml._simd.packet_keys import LEAF, NO_ID, PACKET, box_hits, leaf_hits
from janelia_core.ml._simd.sorted_lists import CHUNK, EMPTY, first_lists, key_of, merge, write_entries

SLACK = 2  # entries of a list beyond k: one to hold the limit, one for a near-tie, so that settle sees both
BOXES, SCANS, HITS = 0, 1, 2  # what `query` counts
Reach = tuple[np.float32, np.float32]  # a factor and a summand


class Wanted(NamedTuple):
    """What a walk looks for: the w lowest entries of a row, or those below a limit.

    Attributes:
        k: Neighbours asked for, at most w.
        w: Entries of a list.
        by_id: Order is by (key, position among centres). Otherwise an entry's id is the position in the tree, and what
            ties with the limit may be cut.
        way: How keys are made.
        reach: The limit is the w-th key so far, or the k-th, stretched by this, where that is lower.
    """

    k: int
    w: int
    by_id: bool
    way: Way
    reach: Reach


class _Packet(NamedTuple):
    """PACKET rows that share a walk.

    Attributes:
        x: (d * PACKET,) coordinates, PACKET values of each.
        lists: (PACKET * chunks * CHUNK,) their lowest entries so far, ascending.
        key_limits: (PACKET,) what is not before (key limit, id limit) need not be listed.
        id_limits: See key_limits.
        keys: (PACKET * LEAF,) scratch, like what follows: their keys with a leaf,
        hits: (PACKET,) which of these are to be listed,
        entries: (LEAF,) and the entries of one row's.
    """

    x: F32
    lists: I64
    key_limits: F32
    id_limits: I32
    keys: F32
    hits: I64
    entries: I64


@kernel
def limit(kth: int, last: int, reach: Reach) -> float:
    """Return what keys of a list must stay below, given its k-th and its last entry."""
    stretched: float = key_of(kth) * reach[0] + reach[1]
    full: float = key_of(last)
    return stretched if stretched < full else full


@kernel
def limits(best: I64, wanted: Wanted, out: F64) -> None:
    """Write for each list what `query` has cut nothing below."""
    for row in range(best.shape[0]):
        out[row] = limit(best[row, wanted.k - 1], best[row, wanted.w - 1], wanted.reach)


@kernel
def _scan(z: F32, ids: I32, leaf: int, mask: int, packet: _Packet, wanted: Wanted, work: I64) -> None:
    """Scan a leaf for the rows of the mask: one vector of keys a row, then hits merged into the lists that have any."""
    x, lists, key_limits, id_limits, keys, hits, entries = packet
    d, chunks, changed = x.shape[0] // PACKET, lists.shape[0] // (PACKET * CHUNK), 0
    work[SCANS] += bits_set(mask)
    while mask != 0:
        lane = first_bit(mask)
        mask &= mask - 1
        hits[lane] = leaf_hits(wanted.way, z, leaf, x, lane, d, ids, key_limits, id_limits, keys)
        changed |= (hits[lane] != 0) << lane
    while changed != 0:
        lane = first_bit(changed)
        changed &= changed - 1
        work[HITS] += bits_set(hits[lane])
        write_entries(keys, lane, ids, leaf, wanted.by_id, entries)
        merge(lists, lane * chunks * CHUNK, chunks, entries, hits[lane])
        _tighten(packet, lane, wanted)


@kernel
def _tighten(packet: _Packet, lane: int, wanted: Wanted) -> None:
    """Set a row's limits by its list."""
    base = lane * (packet.lists.shape[0] // PACKET)
    last = packet.lists[base + wanted.w - 1]
    packet.key_limits[lane] = limit(packet.lists[base + wanted.k - 1], last, wanted.reach)
    if wanted.by_id:
        packet.id_limits[lane] = last & NO_ID


@kernel
def _aligned(words: int) -> I64:
    """Return an array that begins where a line of the cache does, so that vectors do not straddle lines."""
    room = np.empty(words + 7, np.int64)
    start = (-room.ctypes.data % 64) // 8
    return room[start : start + words]


@kernel
def query(tree: Boxes, x: F32, wanted: Wanted, best: I64, work: I64) -> None:
    """Fill best (r, w) with the w lowest entries of each row of x (r, d), ascending, EMPTY at the end.

    PACKET adjacent rows share a walk; each has its own limit: what is not below it may be missing. Adds to work (3,)
    what it took: box tests of packets, leaf scans of rows and hits merged after a packet's first leaf.
    """
    _, d, z, ids, boxes, first, spans, axes, at, lowest = tree
    (_, w, by_id, way, _), r = wanted, x.shape[0]
    chunks = (w + CHUNK - 1) // CHUNK
    packet = _Packet(
        x=_aligned(d * PACKET // 2).view(np.float32),
        lists=_aligned(PACKET * chunks * CHUNK),
        key_limits=_aligned(PACKET // 2).view(np.float32),
        id_limits=_aligned(PACKET // 2).view(np.int32),
        keys=_aligned(PACKET * LEAF // 2).view(np.float32),
        hits=np.empty(PACKET, np.int64),
        entries=_aligned(LEAF),
    )
    rows, lists, key_limits, id_limits, _, _, _ = packet
    stack, masks, all_lanes = np.empty(STACK, np.int64), np.empty(STACK, np.int64), (1 << PACKET) - 1
    for row in range(0, r, PACKET):
        used = min(PACKET, r - row)
        lists[:] = EMPTY
        for lane in range(PACKET):
            key_limits[lane] = np.inf if lane < used else -1.0
            id_limits[lane] = NO_ID if by_id else -1
            for q in range(d):
                rows[q * PACKET + lane] = x[row + min(lane, used - 1), q]
        stack[0], masks[0], top, untouched = 0, all_lanes, 1, True
        while top > 0:
            top -= 1
            node, mask = stack[top], masks[top]
            while mask != 0 and axes[node] >= 0:
                work[BOXES] += 2
                left, right = node + 1, right_child(node, spans[node])
                both = box_hits(way, boxes, left, right, lowest, rows, d, key_limits, id_limits)
                # The nearer child next, the other later. No branch: either is a toss-up.
                ahead = np.int64(rows[axes[node] * PACKET + PACKET // 2] >= at[node])
                node, stack[top] = left + ahead * (right - left), right - ahead * (right - left)
                mask, masks[top] = both >> PACKET * ahead & all_lanes, both >> PACKET * (1 - ahead) & all_lanes
                top += masks[top] != 0
            span = spans[node]
            for leaf in range(first[node], first[node] + (span if mask != 0 else 0)):
                if untouched:
                    untouched = False
                    first_lists(way, z, leaf, rows, d, ids, by_id, chunks, lists)
                    for lane in range(used):
                        _tighten(packet, lane, wanted)
                    continue
                _scan(z, ids, leaf, mask, packet, wanted, work)
                if span > 1:  # a pile of identical points: stop as soon as nobody needs another copy
                    mask = box_hits(way, boxes, node, node, lowest, rows, d, key_limits, id_limits) & all_lanes
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
