"""Numba kernels of the sorted screen: where sorted entries lie so close that rounding may have swapped them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.screens.sorted.distances import TILE
from janelia_core.ml._knn.settle.kernels import settle_run
from janelia_core.ml._runtime.arrays import F64, I32, I64, U64, Reals
from janelia_core.ml._runtime.jit import jit

_LONGEST = 64  # entries that are put in order here; rows with more go up the ladder
_PATIENCE = 8  # places that an entry moves on average before another way to make entries takes less


class Listed(NamedTuple):
    """What a row has listed, n centres in slots.

    Attributes:
        far: (n,) float64 distances, by slot.
        ids: (n,) which centres, by slot, ascending.
        tiles: (number, d, TILE) all centres.
    """

    far: F64
    ids: I32
    tiles: Reals


class Room(NamedTuple):
    """Scratch for runs.

    Attributes:
        points: (_LONGEST, d) float64.
        numbers: (_LONGEST,).
        keys: (2, _LONGEST).
    """

    points: F64
    numbers: I64
    keys: F64


@jit
def room_for_runs(d: int) -> Room:
    """Return scratch for points of d coordinates."""
    return Room(np.empty((_LONGEST, d)), np.empty(_LONGEST, np.int64), np.empty((2, _LONGEST)))


@jit
def are_apart(entries: U64, n: int, gap: np.uint64) -> bool:
    """Whether each of n sorted entries is at least gap above the one before."""
    close = 0
    for q in range(np.uint64(1), np.uint64(n)):
        close += entries[q] - entries[q - np.uint64(1)] < gap
    return close == 0


@jit
def by_distance(slots: U64, n: int, mask: np.uint64, far: F64) -> bool:
    """Leaves only the slots of n sorted entries, in the order of (distance, slot); gives up where they move far."""
    moves, most = 0, _PATIENCE * n + 1024
    for q in range(n):
        slot, place = slots[q] & mask, q
        while place > 0:
            other = slots[place - 1]
            if far[other] < far[slot] or (far[other] == far[slot] and other < slot):
                break
            slots[place] = other
            place -= 1
        slots[place] = slot
        moves += q - place
        if moves > most:
            return False
    return True


@jit
def _ascending(slots: U64, first: int, stop: int) -> None:
    for q in range(first + 1, stop):
        slot, place = slots[q], q
        while place > first and slots[place - 1] > slot:
            slots[place] = slots[place - 1]
            place -= 1
        slots[place] = slot


@jit
def _are_identical(listed: Listed, one: np.uint64, other: np.uint64) -> bool:
    a, b, tiles = listed.ids[one], listed.ids[other], listed.tiles
    differing = 0
    for q in range(tiles.shape[1]):
        differing += tiles[a // TILE, q, a % TILE] != tiles[b // TILE, q, b % TILE]
    return differing == 0


@jit
def _settled(x: F64, i: int, listed: Listed, slots: U64, first: int, stop: int, room: Room) -> bool:
    """Puts a run, slots ascending, in the exact order; returns whether that is proven."""
    ids, tiles, points, numbers = listed.ids, listed.tiles, room.points, room.numbers
    run = slots[first:stop].copy()
    for member in range(stop - first):
        j = ids[run[member]]
        for q in range(tiles.shape[1]):
            points[member, q] = tiles[j // TILE, q, j % TILE]
        numbers[member] = member  # ascending as the centres are, which decides ties
    proven = settle_run(x, i, points, numbers, 0, stop - first, room.keys)
    for member in range(stop - first):
        slots[first + member] = run[numbers[member]]
    return proven


@jit
def settle_runs(
    x: F64, i: int, listed: Listed, slots: U64, n: int, k: int, error: tuple[float, float], room: Room
) -> float:
    """Puts the first k of n slots, sorted by (distance, slot), in the exact order.

    Args:
        x: (r, d) float64 rows.
        i: The row.
        listed: What slots stand for.
        slots: As returned by `by_distance`, written.
        n: How many.
        k: How many places matter.
        error: `bounds.DistanceBound`: (relative, absolute) of a distance; zeros where distances are exact.
        room: Scratch.

    Returns:
        An upper bound of the true distances of the first k, and of all that rounding cannot tell from them; inf where
        the order is not proven.
    """
    far, (relative, absolute) = listed.far, error
    first, bound = (k, far[slots[k - 1]]) if relative == 0.0 and absolute == 0.0 else (0, np.inf)
    while first < k:
        stop, alike, bound = first + 1, True, far[slots[first]] * (1.0 + relative) + absolute
        while stop < n and far[slots[stop]] * (1.0 - relative) - absolute <= bound:
            alike = alike and _are_identical(listed, slots[first], slots[stop])
            bound = far[slots[stop]] * (1.0 + relative) + absolute
            stop += 1
        if not alike and stop - first > _LONGEST:
            return np.inf
        if stop - first > 1:
            _ascending(slots, first, stop)
            if not alike and not _settled(x, i, listed, slots, first, stop, room):
                return np.inf
        first = stop
    return bound
