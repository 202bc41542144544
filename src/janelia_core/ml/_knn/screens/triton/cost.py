"""What the Triton screen takes, and how it goes about a search: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from janelia_core.ml._knn.metrics.metric import UNKNOWN
from janelia_core.ml._knn.plan.demand import PER_CELL, Cost, Demand
from janelia_core.ml._knn.problem import MOST_CTRS, Problem
from janelia_core.ml._knn.screens.rerank.cost import TOGETHER, bytes_of_listed
from janelia_core.ml._knn.screens.triton.tiles import WIDEST, Tile, tile_for
from janelia_core.ml._runtime.gpu import Gpu

_MOST_NEIGHBOURS = 2048
_MOST_CTRS = 1 << 28  # groups, row numbers and places of their numbers have 32 bits
_FIRST, _LEAST_FIRST = 128, 512  # the first part of the tiles, and groups in it at least
MOST_FIRST = 4096
"""Groups of which one program finds the best."""
_GROWTH = 4  # of the centres seen, until a threshold is raised
_BIASED = 1 << 17  # centres up to which each has its own bias: tiles of so few in order of their norm are too unlike
_MOST_LISTED = 1 << 30  # places in all lists, whose numbers have 32 bits
_LISTS = 8  # of a row and part
_MOST_PARTS = 128
_PER_NEIGHBOUR = 16  # groups, where all are scored
_MOST_STORED = 1 << 30  # bytes of scores of all groups, beyond which thresholds come first
_PER_PLACE, _PER_SCORE = 0.02, 0.03  # nanoseconds of a place in a list that is looked through, and of a group's score
_MOST_PLACES = 4096  # in the lists of a row that one program reads
_FEWEST = 16  # rows worth a search of their own
_WIDER = 4  # are the lists in which rows are searched again
_PER_PICOSECOND = 1e-3 / 500.0  # of a nanosecond: a multiplication, at 500 TFLOP/s
_PER_LAUNCH, _PER_ROW = 1e6, 50.0  # nanoseconds of all launches, and of a row beside its products
_LOW, _IN_LOW = 4, 8.0  # coordinates of which float16 tells little: so many more centres are listed
_PER_GROUP = 4  # that is looked at, of a row
_PER_ASKED = 40  # what is known of a row until the host asks who is in doubt, if all are


class Settings(NamedTuple):
    """How a search goes.

    Attributes:
        tile: What a program multiplies.
        edges: Tiles up to which centres are looked at in turn; all up to the first are scored without a threshold.
        groups: Groups of a tile: 8, or more where centres are few and all are scored.
        biased: Centres come as they are, each with its own bias; else in the order of their norms.
        cap: Places in a list of groups.
        keep: Centres that may be listed of a row.
        parts: Programs that share the centres of a block of rows.
        whole: All centres are scored without a threshold: rows are few.
        rows: Rows of a block.
        again: Rows of a block of those that are searched again.
        kth: Which score is the threshold.
        inline: Kernels may hold instructions of the chip.
        fetched: Tiles are fetched by the chip's copy engine.
    """

    tile: Tile
    edges: tuple[int, ...]
    groups: int
    biased: bool
    cap: int
    keep: int
    parts: int
    whole: bool
    rows: int
    again: int
    kth: int
    inline: bool
    fetched: bool


def why_not(problem: Problem, workers: int) -> str:
    """Return why it does not serve a problem of these sizes, or nothing."""
    gpu, k = problem.machine.gpu, problem.k
    if gpu is None:
        return problem.machine.no_gpu or "the Triton screen is for GPUs"
    if problem.form == UNKNOWN:
        return "the Triton screen knows distances, inner products and cosines"
    if problem.d > WIDEST:
        return f"float16 sums over {problem.d} coordinates exclude too little"
    if k > _MOST_NEIGHBOURS or problem.n_ctrs > _MOST_CTRS:
        return f"the Triton screen lists at most {_MOST_NEIGHBOURS} neighbours of at most {_MOST_CTRS} centres"
    if 2 * k > problem.n_ctrs:
        return f"of {problem.n_ctrs} centres {k} are too many to leave others out"
    return ""


def cost(problem: Problem) -> Cost:
    """Return what it costs as long as nothing is known of the values."""
    pairs = problem.n_smps * problem.n_ctrs * (problem.d + 16)
    preparing = problem.n_ctrs * problem.d * 4e-3
    rows = problem.n_smps * _PER_ROW * (_IN_LOW if problem.d <= _LOW else 1.0)
    return Cost(_PER_LAUNCH + problem.unpaid("triton", preparing) + rows + pairs * _PER_PICOSECOND)


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
    """Return what it asks of the memory: packed centres, and of a row its lists."""
    gpu = problem.machine.gpu
    assert gpu is not None
    held = _held(problem, gpu)
    settings = _settings(problem, gpu, (room - held) // 4 * 3)  # the rest is for rows in doubt
    if settings.rows < min(problem.n_smps, _FEWEST) or settings.again < 1:
        return f"packed centres and the lists of a few rows take more than the {room} bytes there are for them"
    used = held + max(settings.rows * bytes_of_row(settings, problem), settings.again * _bytes_again(settings, problem))
    used += settings.rows * TOGETHER * _PER_ASKED
    return Demand(used, 4 * MOST_CTRS, settings.keep, "float16 products on a GPU", settings, kept=True, sifts=True)


def again(settings: Settings) -> Settings:
    """Return how rows are searched again whose lists were full: all centres are scored, and lists are longer.

    Of groups, as long as a program reads of a row: that is all that reach a threshold which does not grow any more.
    """
    edges = (settings.edges[-1],)
    cap = max(settings.cap, min(settings.cap * _WIDER, _MOST_PLACES // _LISTS))
    return settings._replace(cap=cap, keep=settings.keep * _WIDER, whole=True, edges=edges, rows=settings.again)


def bytes_of_row(settings: Settings, problem: Problem) -> int:
    """Return the bytes of a row on its way: packed, its lists, and what is found."""
    lists = _LISTS * (1 if settings.whole else settings.parts) * (8 * settings.cap + 4)
    stored = 4 * settings.groups * settings.edges[0] + 4 * settings.kth
    found = settings.keep * (_PER_GROUP + bytes_of_listed(settings.keep))
    shown = problem.n_ctrs * (2 + PER_CELL) if problem.masked else 0
    return 2 * settings.tile.width + 16 + lists + max(found, stored) + 8 * problem.k + 64 + shown


def _bytes_again(settings: Settings, problem: Problem) -> int:
    """Return the same for a row that is searched again, of which a copy is taken."""
    return bytes_of_row(again(settings), problem) + 8 * problem.d


def _settings(problem: Problem, gpu: Gpu, room: int = 1 << 40) -> Settings:
    k = problem.k
    tile = tile_for(problem.d, problem.n_smps, gpu, problem.masked)
    n_tiles = -(-problem.n_ctrs // tile.ctrs)
    edges = _edges(n_tiles, k)
    settings = Settings(
        tile=tile,
        edges=edges,
        groups=_LISTS,
        biased=problem.masked or problem.n_ctrs <= _BIASED,
        cap=_cap(k, 1),
        keep=power_above(k + k / 4 + 12.0),
        parts=1,
        whole=len(edges) == 1,
        rows=problem.n_smps,
        again=problem.n_smps,
        kth=k,
        inline=gpu.inline,
        fetched=gpu.descriptors,
    )
    many, turns = range(1, _MOST_PARTS + 1), len(edges) - 1
    in_lists = [parts for parts in many if parts == 1 or _places(k, parts) <= _MOST_PLACES]
    whole, parts = _shared(problem, tile, lambda _: _LISTS * n_tiles * _PER_SCORE, many)
    filtered, in_turns = _shared(problem, tile, lambda parts: turns * _places(k, parts) * _PER_PLACE, in_lists)
    stored = settings._replace(edges=(n_tiles,), whole=True, groups=_groups(n_tiles, tile, k), parts=parts)
    fits = bytes_of_row(stored, problem) * problem.n_smps <= min(room, _MOST_STORED)
    if settings.whole or (whole < filtered and fits):
        settings = stored
    else:
        settings = settings._replace(parts=in_turns, cap=_cap(k, in_turns))
    per_row = bytes_of_row(settings, problem) + TOGETHER * _PER_ASKED
    most = min(room // per_row, _MOST_LISTED // (settings.cap * _LISTS * settings.parts))
    block = tile.rows * gpu.processors * tile.together
    rows = most // block * block if most >= block else most
    rows = min(rows, problem.n_smps)
    room -= rows * TOGETHER * _PER_ASKED
    widest = min(room // _bytes_again(settings, problem), _MOST_LISTED // (settings.cap * _WIDER * _LISTS))
    return settings._replace(rows=rows, again=min(widest, problem.n_smps))


def _cap(k: int, parts: int) -> int:
    """Return the places of a list: the first part has the nearest so far, and each gets its share of those to come."""
    mean = (1.0 + (_GROWTH - 1.0) / parts) * k / _LISTS
    return power_above(mean + 5.0 * math.sqrt(mean) + 6.0)


def _places(k: int, parts: int) -> int:
    return _cap(k, parts) * power_above(_LISTS * parts)


def _shared(problem: Problem, tile: Tile, per_row: Callable[[int], float], among: Sequence[int]) -> tuple[float, int]:
    """Return the least work, in nanoseconds, and how many programs share the centres of rows then.

    Args:
        problem: The search.
        tile: Of products.
        per_row: Work of a row beside its products, by the number of programs.
        among: The numbers to choose from.
    """
    gpu = problem.machine.gpu
    assert gpu is not None
    blocks, room = -(-problem.n_smps // tile.rows), gpu.processors * tile.together
    products = problem.n_smps * problem.n_ctrs * (problem.d + 16) * _PER_PICOSECOND
    most = max(1, -(-problem.n_ctrs // tile.ctrs) // 2)

    def work(parts: int) -> float:
        busy = blocks * parts / (-(-blocks * parts // room) * room)
        return products / busy + problem.n_smps * per_row(parts) + parts  # of equals the fewest

    return min((work(parts), parts) for parts in among if parts <= most)


def _edges(n_tiles: int, k: int) -> tuple[int, ...]:
    """Return the tiles up to which centres are looked at in turn: each time so many times more."""
    groups = max(_LEAST_FIRST, 4 * k, _LISTS * n_tiles // _FIRST)
    first = min(groups, MOST_FIRST) // _LISTS
    if n_tiles <= 2 * first and _LISTS * n_tiles <= MOST_FIRST:
        return (n_tiles,)
    turns = max(1, math.ceil(math.log(n_tiles / first) / math.log(_GROWTH) - 1e-9))
    return tuple(round(first * (n_tiles / first) ** (turn / turns)) for turn in range(turns + 1))


def _groups(n_tiles: int, tile: Tile, k: int) -> int:
    """Return into how many groups tiles are cut, so that enough of few centres make up the threshold."""
    groups = _LISTS
    while groups < tile.ctrs and groups * n_tiles < _PER_NEIGHBOUR * k:
        groups *= 2
    return groups


def _held(problem: Problem, gpu: Gpu) -> int:
    """Return the bytes of packed centres with their numbers, and of what puts them in order."""
    tile = tile_for(problem.d, problem.n_smps, gpu, problem.masked)
    ctrs = -(-problem.n_ctrs // tile.ctrs) * tile.ctrs
    return ctrs * (2 * tile.width + 16 + 4) + problem.n_ctrs * (8 + 8 + 16)


def power_above(number: float) -> int:
    """Return the least power of two that is not below a number, or 8."""
    return 1 << max(3, math.ceil(math.log2(number)))
