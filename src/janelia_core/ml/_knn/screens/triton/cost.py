"""What the Triton screen takes, and how it goes about a search: pure arithmetic."""

from __future__ import annotations

import math
from typing import NamedTuple

from janelia_core.ml._knn.metrics.metric import UNKNOWN
from janelia_core.ml._knn.plan.demand import Cost, Demand
from janelia_core.ml._knn.problem import MOST_CTRS, Problem
from janelia_core.ml._knn.screens.rerank.cost import bytes_of_listed
from janelia_core.ml._knn.screens.triton.tiles import WIDEST, Tile, tile_for
from janelia_core.ml._runtime.gpu import Gpu

_FEWEST_PAIRS = 1 << 16  # fewer are looked at all at once, in fewer launches than this screen has
_MOST_NEIGHBOURS = 2048
_MOST_CTRS = 1 << 30  # groups and row numbers are 32-bit numbers
_FIRST, _LEAST_FIRST = 64, 512  # the first part of the tiles, and groups in it at least
MOST_FIRST = 4096
"""Groups of which one program finds the best."""
_GROWTH = 4  # of the centres seen, until a threshold is raised
_BIASED = 1 << 17  # centres up to which each has its own bias: tiles of so few in order of their norm are too unlike
_MOST_LISTED = 1 << 30  # places in all lists, whose numbers have 32 bits
_LISTS = 8  # of a row and part
_MOST_PARTS = 128
_PER_PART = 1e-3  # of the time of a search, roughly
_MOST_PLACES = 4096  # in the lists of a row that one program reads
_FEWEST = 16  # rows worth a search of their own
_WIDER = 4  # are the lists in which rows are searched again
_PER_PICOSECOND = 1e-3 / 500.0  # of a nanosecond: a multiplication, at 500 TFLOP/s
_PER_LAUNCH = 2e5  # nanoseconds of all launches
_PER_GROUP = 4  # that is looked at, of a row


class Settings(NamedTuple):
    """How a search goes.

    Attributes:
        tile: What a program multiplies.
        edges: Tiles up to which centres are looked at in turn; all up to the first are scored without a threshold.
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
    if 4 * k > _n_groups(problem, gpu):
        return f"{problem.n_ctrs} centres are few for groups of which {k} are wanted"
    return ""


def cost(problem: Problem) -> Cost:
    """Return what it costs as long as nothing is known of the values."""
    pairs = problem.n_smps * problem.n_ctrs * (problem.d + 16)
    preparing = problem.n_ctrs * problem.d * 4e-3
    return Cost(_PER_LAUNCH + problem.unpaid("triton", preparing) + pairs * _PER_PICOSECOND)


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
    """Return what it asks of the memory: packed centres, and of a row its lists."""
    gpu = problem.machine.gpu
    assert gpu is not None
    held = _held(problem, gpu)
    settings = _settings(problem, gpu, room - held)
    if settings.rows < min(problem.n_smps, _FEWEST) or settings.again < 1:
        return f"packed centres and the lists of a few rows take more than the {room} bytes there are for them"
    used = held + max(
        settings.rows * bytes_of_row(settings, problem), settings.again * bytes_of_row(again(settings), problem)
    )
    return Demand(used, 4 * MOST_CTRS, settings.keep, "float16 products on a GPU", settings, kept=True, sifts=True)


def again(settings: Settings) -> Settings:
    """Return how rows are searched again whose lists were full: all centres are scored, and lists are wider."""
    edges = (settings.edges[-1],)
    cap = max(settings.cap, min(settings.cap * _WIDER, _MOST_PLACES // _LISTS))
    return settings._replace(cap=cap, keep=settings.keep * _WIDER, whole=True, edges=edges, rows=settings.again)


def bytes_of_row(settings: Settings, problem: Problem) -> int:
    """Return the bytes of a row on its way: packed, its lists, and what is found."""
    lists = _LISTS * (1 if settings.whole else settings.parts) * (8 * settings.cap + 4)
    stored = 4 * _LISTS * settings.edges[0] + 4 * settings.kth
    found = settings.keep * (_PER_GROUP + bytes_of_listed(settings.keep))
    shown = problem.n_ctrs * 2 if problem.masked else 0
    return 2 * settings.tile.width + 16 + lists + max(found, stored) + 8 * problem.k + 64 + shown


def _settings(problem: Problem, gpu: Gpu, room: int = 1 << 40) -> Settings:
    k = problem.k
    tile = tile_for(problem.d, problem.n_smps, gpu, problem.masked)
    n_tiles = -(-problem.n_ctrs // tile.ctrs)
    mean = _GROWTH * k / _LISTS
    cap = power_above(mean + 5.0 * math.sqrt(mean) + 6.0)
    parts = parts_of(problem.n_smps, tile, gpu, n_tiles, _MOST_PARTS)
    in_lists = max(1, _MOST_PLACES // (cap * _LISTS))
    edges = _edges(n_tiles, k)
    settings = Settings(
        tile=tile,
        edges=edges,
        biased=problem.masked or problem.n_ctrs <= _BIASED,
        cap=cap,
        keep=power_above(k + k / 4 + 12.0),
        parts=parts,
        whole=len(edges) == 1,
        rows=problem.n_smps,
        again=problem.n_smps,
        kth=k,
        inline=gpu.inline,
        fetched=gpu.descriptors,
    )
    whole = settings._replace(edges=(n_tiles,), whole=True)
    if parts > in_lists and bytes_of_row(whole, problem) * problem.n_smps <= room:
        settings = whole
    elif not settings.whole:
        settings = settings._replace(parts=parts_of(problem.n_smps, tile, gpu, n_tiles, in_lists))
    most = min(room // bytes_of_row(settings, problem), _MOST_LISTED // (cap * _LISTS * settings.parts))
    block = tile.rows * gpu.processors * tile.together
    rows = most // block * block if most >= block else most
    widest = min(room // bytes_of_row(again(settings), problem), _MOST_LISTED // (cap * _WIDER * _LISTS))
    return settings._replace(rows=min(rows, problem.n_smps), again=min(widest, problem.n_smps))


def parts_of(n_smps: int, tile: Tile, gpu: Gpu, n_tiles: int, most: int) -> int:
    """Return how many programs, `most` at most, share the centres of rows, so that no processor is idle."""
    blocks, room = -(-n_smps // tile.rows), gpu.processors * tile.together

    def idle(parts: int) -> float:  # a share of all that is not used, and what more lists cost
        turns = -(-blocks * parts // room)
        return 1.0 - blocks * parts / (turns * room) + _PER_PART * (parts - 1)

    return min(range(1, max(1, min(most, n_tiles // 2)) + 1), key=idle)


def _edges(n_tiles: int, k: int) -> tuple[int, ...]:
    """Return the tiles up to which centres are looked at in turn: each time so many times more."""
    groups = max(_LEAST_FIRST, 4 * k, _LISTS * n_tiles // _FIRST)
    first = min(groups, MOST_FIRST) // _LISTS
    if n_tiles <= 2 * first and _LISTS * n_tiles <= MOST_FIRST:
        return (n_tiles,)
    turns = max(1, math.ceil(math.log(n_tiles / first) / math.log(_GROWTH) - 1e-9))
    return tuple(round(first * (n_tiles / first) ** (turn / turns)) for turn in range(turns + 1))


def _n_groups(problem: Problem, gpu: Gpu) -> int:
    return _LISTS * -(-problem.n_ctrs // tile_for(problem.d, problem.n_smps, gpu, problem.masked).ctrs)


def _held(problem: Problem, gpu: Gpu) -> int:
    """Return the bytes of packed centres with their numbers, and of what puts them in order."""
    tile = tile_for(problem.d, problem.n_smps, gpu, problem.masked)
    ctrs = -(-problem.n_ctrs // tile.ctrs) * tile.ctrs
    return ctrs * (2 * tile.width + 16 + 4) + problem.n_ctrs * (8 + 8 + 16)


def power_above(number: float) -> int:
    """Return the least power of two that is not below a number, or 8."""
    return 1 << max(3, math.ceil(math.log2(number)))
