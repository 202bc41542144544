"""The best two scores of rows, of which bfloat16 scores tell in which groups of centres they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._runtime.arrays import F32, F64, I32
from janelia_core.ml._runtime.jit import inlined
from janelia_core.ml._simd.bits import first_bit
from janelia_core.ml._simd.row_halves import GROUP, group_tops, rows_near, two_best_of_group
from janelia_core.ml._simd.row_lanes import ROWS, WORST


class Halves(NamedTuple):
    """Centres in groups; without any, scores are float32 from the first.

    Fields:
        words: Pairs of coordinates in bfloat16, as `row_halves` wants them.
        levels: What their sums start from.
        groups: The same centres in float32, likewise.
        sure: (3,): a row of norm r that lost a part of norm l in bfloat16 has no best centre in groups whose scores are
            more than sure[0] l + sure[1] r + sure[2] below the best.
    """

    words: I32
    levels: F32
    groups: F32
    sure: F64


class HalfBlock(NamedTuple):
    """Room for a block of rows.

    Fields:
        words: Pairs of coordinates.
        lost: (ROWS,) norms of what bfloat16 does not hold.
        tops: (n_groups, ROWS) best scores in each group.
        best: (ROWS,) of all.
        floors: (ROWS,) what a group has to reach.
        two: (2,) the best of one group.
    """

    words: I32
    lost: F32
    tops: F32
    best: F32
    floors: F32
    two: F32


@inlined
def half_block(halves: Halves) -> HalfBlock:
    """Return room."""
    return HalfBlock(
        np.zeros((halves.words.shape[1], ROWS), np.int32),
        np.empty(ROWS, np.float32),
        np.empty((halves.groups.shape[0], ROWS), np.float32),
        np.empty(ROWS, np.float32),
        np.empty(ROWS, np.float32),
        np.empty(2, np.float32),
    )


@inlined
def _round(points: F32, d: int, bits: I32, block: HalfBlock) -> None:
    """Round coordinates to bfloat16, to nearest even, and measure what that loses."""
    words, lost = block.words, block.lost
    for r in range(np.uint64(ROWS)):
        lost[r] = 0.0
    rounded = np.empty(ROWS, np.int32)
    held = rounded.view(np.float32)
    for q in range(np.uint64(d)):
        word, high = q // np.uint64(2), np.int32(q % np.uint64(2))
        for r in range(np.uint64(ROWS)):
            own = bits[q, r]
            rounded[r] = (own + np.int32(0x7FFF) + ((own >> np.int32(16)) & np.int32(1))) & np.int32(-65536)
        for r in range(np.uint64(ROWS)):
            gap = points[q, r] - held[r]
            lost[r] += gap * gap
        if high == 0:
            for r in range(np.uint64(ROWS)):
                words[word, r] = (rounded[r] >> np.int32(16)) & np.int32(0xFFFF)
        else:
            for r in range(np.uint64(ROWS)):
                words[word, r] |= rounded[r]
    for r in range(np.uint64(ROWS)):
        lost[r] = np.sqrt(lost[r]) * np.float32(1.0 + 2.0**-12)


@inlined
def list_two(
    halves: Halves, points: F32, d: int, bits: I32, norms: F32, block: HalfBlock, scores: F32, who: I32
) -> None:
    """Write the best two scores of each row, and whose the best is; of rows that are not finite there are none."""
    _round(points, d, bits, block)
    group_tops(block.words, halves.words, halves.levels, block.tops, block.best)
    by_lost, by_norm, level = np.float32(halves.sure[0]), np.float32(halves.sure[1]), np.float32(halves.sure[2])
    for r in range(np.uint64(ROWS)):
        block.floors[r] = block.best[r] - (by_lost * block.lost[r] + by_norm * norms[r] + level)
    scores[:2], who[0] = np.float32(WORST), -1
    for group in range(halves.groups.shape[0]):
        mask = rows_near(block.tops, group, block.floors)
        while mask != 0:
            r = first_bit(mask)
            mask &= mask - np.uint64(1)
            lane = two_best_of_group(points, r, halves.groups, group, block.two)
            best, second = block.two[0], block.two[1]
            if best > scores[0, r]:
                scores[1, r], scores[0, r], who[0, r] = max(scores[0, r], second), best, group * GROUP + lane
            else:
                scores[1, r] = max(scores[1, r], best)
