"""Numba kernels of the codebook screen: blocks of rows, one a lane, meet all centres, and what is proven is written."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.screens.codebook.halves import Halves, half_block, list_two
from janelia_core.ml._knn.screens.codebook.resolve import Wide, in_order
from janelia_core.ml._runtime.arrays import F32, F64, I32, I64, Reals
from janelia_core.ml._runtime.jit import inlined, jit_with
from janelia_core.ml._simd.bits import first_bit
from janelia_core.ml._simd.row_halves import CHAINS
from janelia_core.ml._simd.row_lanes import (
    CTRS,
    ROWS,
    SQUARE,
    VECTORS,
    WORST,
    bring,
    enter,
    gap_scores_of_tile,
    scores_of_tile,
    two_best,
)


class Book(NamedTuple):
    """Centres as kernels take them; lengths are those of points that are shifted and scaled.

    Fields:
        words: As `row_lanes` wants them.
        middle: (d,) in the type of rows: what is taken from them.
        scale: (1,) likewise, a power of two: what they are multiplied by then.
        gaps: (3,) float64: scores are less squared distances, off by a relative gaps[0], of points off by gaps[1] times
            a row's norm and gaps[2]; empty: they are not.
        sure: (4,) float64: a row of norm r has scores apart by more than sure[0] r + sure[1] in the right order; up to
            a norm of sure[2] scores are exact if sure[3] times its coordinates are integers.
        halves: The same centres in bfloat16.
    """

    words: F32
    middle: Reals
    scale: Reals
    gaps: F64
    sure: F64
    halves: Halves


class Asked(NamedTuple):
    """Rows of x, in C order, float32 or float64.

    Fields:
        x: See above.
        rows: (r,) which rows; empty: start .. stop - 1.
        start: See above.
        stop: See above.
        column: What is added to the number of a row: its column in memory.
        k: How many centres are wanted.
        width: How many are listed, more than k; of k + 1, none are looked at again.
    """

    x: Reals
    rows: I64
    start: int
    stop: int
    column: int
    k: int
    width: int


class Output(NamedTuple):
    """Where answers go.

    Fields:
        memory: Of (k, n_smps), written in columns without doubt, nearest first.
        strides: Its strides.
        numbers: What the centres are called there; empty: by their positions.
        doubtful: Rows in doubt, one after the other.
    """

    memory: I64
    strides: tuple[int, int]
    numbers: I64
    doubtful: I64


@inlined
def _row(asked: Asked, at: int) -> int:
    return asked.rows[at] if len(asked.rows) > 0 else at


@inlined
def _fill(book: Book, asked: Asked, first: int, last: int, points: F32, norms: F32) -> None:
    """Write rows first .. last - 1 column by column, and a little more than their norms; the last one fills the block.

    Norms of what is not finite, or leaves float32, are not finite.
    """
    x, middle, scale = asked.x, book.middle, book.scale[0]
    d, which = x.shape[1], np.empty(ROWS, np.int64)
    for r in range(ROWS):
        which[r] = _row(asked, min(first + r, last - 1))
    whole = d - d % SQUARE
    for q in range(0, whole, SQUARE):
        for r in range(0, ROWS, SQUARE):
            bring(x, which, r, q, middle, book.scale, points)
    for q in range(np.uint64(whole), np.uint64(d)):
        for r in range(np.uint64(ROWS)):
            points[q, r] = np.float32((x[np.uint64(which[r]), q] - middle[q]) * scale)
    for r in range(np.uint64(ROWS)):
        norms[r] = 0.0
    for q in range(np.uint64(d)):
        for r in range(np.uint64(ROWS)):
            norms[r] += points[q, r] * points[q, r]
    for r in range(np.uint64(ROWS)):
        norms[r] = np.sqrt(norms[r]) * np.float32(1.0 + 2.0**-12)


@inlined
def _list(book: Book, points: F32, scores: F32, who: I32, new: F32) -> None:
    """Write the highest scores of each row, in descending order, and whose they are."""
    if scores.shape[0] == 2:
        two_best(points, book.words, scores, who)
        return
    scores[:], who[:] = np.float32(WORST), -1
    last = (scores.shape[0] - 1) * ROWS
    for tile in range(book.words.shape[0]):
        if len(book.gaps) > 0:
            mask = gap_scores_of_tile(points, book.words, tile, scores, last, new)
        else:
            mask = scores_of_tile(points, book.words, tile, scores, last, new)
        while mask != 0:
            cell = first_bit(mask)
            mask &= mask - np.uint64(1)
            enter(new, cell, tile * CTRS + cell // VECTORS, scores, who)


@inlined
def _settled(scores: F32, k: int, sure: Reals, norms: F32, clear: Reals) -> None:
    """Tell of which rows the first k of the list are proven to be the answer, in this order."""
    apart, level = np.float32(sure[0]), np.float32(sure[1])
    for r in range(np.uint64(ROWS)):
        clear[r] = scores[0, r] - scores[1, r] > apart * norms[r] + level
    for place in range(1, k):
        at, below = np.uint64(place), np.uint64(place + 1)
        for r in range(np.uint64(ROWS)):
            clear[r] &= scores[at, r] - scores[below, r] > apart * norms[r] + level


@inlined
def _is_exact(book: Book, asked: Asked, row: int, norm: float) -> bool:
    """Whether the scores of a row are the true ones: equal ones are ties, which lists have in order."""
    sure, x = book.sure, asked.x
    if not norm <= sure[2]:
        return False
    other = 0
    for q in range(x.shape[1]):
        value = np.float64(x[row, q])
        whole = value * sure[3]
        other += whole != np.floor(whole) or (whole == 0.0 and value != 0.0)
    return other == 0


@inlined
def _floor(book: Book, score: float, norm: float) -> float:
    """What the score of any centre as near as one with this score must reach."""
    if len(book.gaps) == 0:
        return float(score - (np.float32(book.sure[0]) * norm + np.float32(book.sure[1])))
    relative, shift = book.gaps[0], book.gaps[1] * norm + book.gaps[2]
    far = np.sqrt(np.maximum(0.0, -np.float64(score))) * (1.0 + 4.0 * relative) + 2.0 * shift
    return float(-far * far * (1.0 + 2.0**-20) - 2.0**-100)


@inlined
def _write(asked: Asked, row: int, who: I32, r: int, out: Output) -> None:
    at = (row + asked.column) * out.strides[1]
    for place in range(asked.k):
        centre = np.int64(who[place, r])
        out.memory[at] = out.numbers[centre] if len(out.numbers) > 0 else centre
        at += out.strides[0]


@jit_with(error_model="numpy")
def answer(book: Book, wide: Wide, asked: Asked, out: Output) -> int:
    """Write the k nearest of rows where that is proven; return how many are in doubt."""
    k, d = asked.k, asked.x.shape[1]
    points, norms = np.zeros((-(-d // CHAINS) * CHAINS, ROWS), np.float32), np.empty(ROWS, np.float32)
    scores, who = np.empty((asked.width, ROWS), np.float32), np.empty((asked.width, ROWS), np.int32)
    new, clear = np.empty((CTRS, ROWS), np.float32), np.empty(ROWS, np.bool_)
    values, bits = np.empty(asked.width), points.view(np.int32)
    halves, block = book.halves, half_block(book.halves)
    doubtful = 0
    for first in range(asked.start, asked.stop, ROWS):
        last = min(first + ROWS, asked.stop)
        _fill(book, asked, first, last, points, norms)
        if asked.width == 2 and len(halves.words) > 0:
            list_two(halves, points, d, bits, norms, block, scores, who)
        else:
            _list(book, points, scores, who, new)
        _settled(scores, k, book.sure, norms, clear)
        for r in range(last - first):
            row = _row(asked, first + r)
            proven = clear[r] or _is_exact(book, asked, row, norms[r])
            if not proven and asked.width > k + 1:
                floor = _floor(book, scores[k - 1, r], norms[r])
                proven = floor > WORST and in_order(wide, asked.x, row, k, floor, scores, who, r, values)
            if proven:
                _write(asked, row, who, r, out)
            else:
                out.doubtful[doubtful] = row
                doubtful += 1
    return doubtful
