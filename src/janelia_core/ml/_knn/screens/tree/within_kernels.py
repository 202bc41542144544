"""A Numba kernel that lists all points of a tree within a limit of each row, packets of rows together.

It releases the GIL, starts no thread, and doesn't write to the tree.
"""

import numpy as np

from janelia_core.ml._knn.screens.tree.layout import STACK, Boxes, kernel, right_child
from janelia_core.ml._runtime.arrays import F32, I64
from janelia_core.ml._simd.bits import bits_set, first_bit
from janelia_core.ml._simd.gaps import Way
from janelia_core.ml._simd.packet_keys import LEAF, NO_ID, PACKET, box_hits, leaf_hits

_PAIRS = 1 << 10  # of a packet, at first


@kernel
def list_within(
    way: Way, tree: Boxes, x: F32, limits: F32, names: I64, start: int, used: int, counts: I64, listed: I64
) -> tuple[int, int]:
    """List the points whose key is at most a row's limit, for rows from `start` on, as far as there is room.

    Args:
        way: How keys are made.
        tree: The tree.
        x: (r, d) rows; PACKET adjacent ones share a walk.
        limits: (r,) the largest key that counts.
        names: What the centres are called in `listed`; empty: by their positions.
        start: The first row.
        used: How much of listed has been used for the rows before.
        counts: (r,), written: how many are listed for a row.
        listed: (room,), written: row after row.

    Returns:
        The first row for which there was no room, r if there was for all; and how much of listed is used then.
    """
    _, d, z, ids, boxes, first, spans, axes, _, lowest = tree
    r, room = x.shape[0], listed.shape[0]
    rows, keys = np.empty(d * PACKET, np.float32), np.empty(PACKET * LEAF, np.float32)
    key_limits, id_limits = np.empty(PACKET, np.float32), np.full(PACKET, NO_ID, np.int32)  # what ties counts
    pairs, found, places = np.empty(_PAIRS, np.int64), np.empty(PACKET, np.int64), np.empty(PACKET, np.int64)
    stack, masks, all_lanes = np.empty(STACK, np.int64), np.empty(STACK, np.int64), (1 << PACKET) - 1
    for row in range(start, r, PACKET):
        n, total = min(PACKET, r - row), 0
        for lane in range(PACKET):
            found[lane] = 0
            key_limits[lane] = limits[row + lane] if lane < n else np.float32(-1.0)
            for q in range(d):
                rows[q * PACKET + lane] = x[row + min(lane, n - 1), q]
        stack[0], masks[0], top = 0, all_lanes, 1
        while top > 0:
            top -= 1
            node, mask = stack[top], masks[top]
            while mask != 0 and axes[node] >= 0:
                right = right_child(node, spans[node])
                both = box_hits(way, boxes, node + 1, right, lowest, rows, d, key_limits, id_limits)
                node, mask = node + 1, both & all_lanes
                stack[top], masks[top] = right, both >> PACKET
                top += masks[top] != 0
            for leaf in range(first[node], first[node] + (spans[node] if mask != 0 else 0)):
                if total + PACKET * LEAF > pairs.shape[0]:
                    if used + total > room:
                        return row, used
                    more = np.empty(2 * pairs.shape[0], np.int64)
                    more[:total] = pairs[:total]
                    pairs = more
                left = mask
                while left != 0:
                    lane = first_bit(left)
                    left &= left - 1
                    hits = leaf_hits(way, z, leaf, rows, lane, d, ids, key_limits, id_limits, keys)
                    found[lane] += bits_set(hits)
                    while hits != 0:
                        pairs[total] = lane << 32 | (leaf * LEAF + first_bit(hits))
                        hits &= hits - 1
                        total += 1
        if used + total > room:
            return row, used
        for lane in range(n):
            counts[row + lane], places[lane] = found[lane], used
            used += found[lane]
        for pair in range(total):
            lane, point = pairs[pair] >> 32, np.int64(ids[pairs[pair] & NO_ID])
            listed[places[lane]] = names[point] if len(names) else point
            places[lane] += 1
    return r, used
