"""How the memory of a search is shared out: to workers, the screen, verification, and the rungs above the screen.

Temporaries of looks, packing, verify and settle hold one chunk of coordinates at a time; what a coordinate of it takes
there, and what a worker needs to be worth starting, was measured (tests/test_memory.py holds plans to it).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from janelia_core.ml._knn.plan.demand import Demand, Products
from janelia_core.ml._knn.plan.plan import Blocks, Crew, Plan
from janelia_core.ml._knn.problem import FEWEST_CTRS, MOST_CTRS, PER_WORKER, Problem, clamp

_MOST_CHUNK = 1 << 18
_PER_CHUNKED = 60
_CHUNK_SHARE = 256  # bytes of memory, a worker, for each coordinate of the chunk
_FEWEST_ROWS = 256  # a worker is worth its start from so many rows,
_FEWEST_COORDINATES = 1 << 21  # or from so many coordinates of pairs: about half a millisecond of a pass,
_LEAST_WORK = 2e6  # or where so many nanoseconds are expected,
_MOST_ALONE = 1 << 27  # coordinates of pairs, a tenth of a second if all has to be looked at after all
_FEWEST_COLUMNS = 8  # where a centre of fewer takes no less

_PER_CANDIDATE = 256  # verify, sort and settle a candidate
_PER_FALLBACK_CELL = 320  # a pair of the exhaustive rung: distance, masks, padded lists
_PER_TILE_CELL = 20  # a pair of a tile of torch operations on an accelerator: score, order, mask
_PER_BEST = 48  # a place in the lists of the rungs above the screen, while one is lengthened
_MOST_ROWS = 4096  # of a block, on a CPU: elsewhere the memory decides, as every operation costs a launch
_PRODUCT_WORKSPACE = 32 << 20  # what an accelerator's library of products takes at its first, and keeps
_FEWEST_FALLBACK = 64  # rows that the exhaustive rung takes together there, where the memory allows


def crew(problem: Problem, parallel: bool, pooled: bool, work: float = math.inf) -> Crew:
    """Return who works: several where rows are shared out, in threads of their own where torch would start others.

    work: Of the screen that is likely to run, in nanoseconds. A search has a dozen steps, and to wake a thread for each
        takes half a millisecond together, so that one of a millisecond or two is done sooner by the calling thread.
    """
    coordinates = problem.n_smps * problem.n_ctrs * max(problem.d, _FEWEST_COLUMNS)
    worth = max(problem.n_smps // _FEWEST_ROWS, coordinates // _FEWEST_COORDINATES)
    if work < _LEAST_WORK and coordinates < _MOST_ALONE:
        worth = 0
    most = clamp(min(worth, problem.budget // PER_WORKER), problem.machine.threads)
    workers = most if parallel and problem.machine.on_cpu else 1
    return Crew(
        workers=workers,
        pooled=problem.machine.on_cpu and ((pooled and worth > 0) or workers > 1) and problem.budget >= 2 * PER_WORKER,
        chunk=clamp(problem.budget // _CHUNK_SHARE // workers, _most_chunk(problem)),
    )


def _most_chunk(problem: Problem) -> int:
    """Return how many coordinates make nothing faster: on an accelerator those of all points or candidates at once."""
    if problem.machine.on_cpu:
        return _MOST_CHUNK
    return max(_MOST_CHUNK, problem.d * max(problem.n_ctrs, problem.n_smps * most_listed(problem.k)))


def room(problem: Problem, crew: Crew) -> int:
    """Return the bytes left for a screen and its rows; the rest is for chunks, allocators and the product's buffers."""
    return max(0, problem.budget - _fixed(problem, crew))


def _fixed(problem: Problem, crew: Crew) -> int:
    library = 0 if problem.machine.on_cpu else min(_PRODUCT_WORKSPACE, problem.budget // 4)
    return crew.workers * crew.chunk * _PER_CHUNKED + problem.budget // 16 + library


def most_listed(k: int) -> int:
    """Return how many centres of a row the rungs above the screen list before they put them in order."""
    return 2 * k + FEWEST_CTRS


def share_out(
    problem: Problem, crew: Crew, screen: str, demand: Demand, fallback: Callable[[Problem, int], Products]
) -> Plan:
    """Share the memory out between what a screen holds, its rows, and all that follows it.

    fallback: (problem, bytes) -> blocks of the portable screen, for the rungs above another.
    """
    share = max(0, room(problem, crew) - demand.held) // crew.workers
    products = demand.products or fallback(problem, share // 8)
    tile = products.ctr_block * products.row_bytes
    escalation, verification = share // 2 if demand.products else share // 3, share // 8
    # A screen's packed block and the rungs above it take turns; its lists outlive both.
    per_row = demand.per_row
    if not (demand.products or problem.machine.on_cpu):  # rows that this screen leaves in doubt meet larger tiles
        per_row = max(per_row, products.row_bytes + _PER_TILE_CELL * products.ctr_block)
    most_rows = -(-problem.n_smps // crew.workers)
    most_rows = min(most_rows, _MOST_ROWS) if problem.machine.on_cpu else most_rows
    rows = clamp((share - escalation - verification) // per_row, most_rows)
    rounds = max(1, -(-problem.n_smps // (crew.workers * rows)))
    rows = max(1, -(-problem.n_smps // (crew.workers * rounds)))  # as many blocks for every worker
    verified_rows = clamp(verification // (_PER_CANDIDATE * demand.width), rows)
    free = escalation - (0 if products.keep_packed else tile)
    blocks, used = _blocks(problem, rows, verified_rows, free, products)
    used += rows * per_row + verified_rows * _PER_CANDIDATE * demand.width + tile
    return Plan(
        problem=problem,
        screen=screen,
        reason=demand.reason,
        crew=crew,
        blocks=blocks,
        products=products,
        own=demand.own,
        variant=demand.variant,
        width=demand.width,
        kept=demand.kept,
        sifts=demand.sifts,
        at_once_rows=0,
        workspace_bytes=_fixed(problem, crew) + demand.held + crew.workers * used,
    )


def _blocks(problem: Problem, rows: int, verified_rows: int, free: int, products: Products) -> tuple[Blocks, int]:
    """Return all blocks: of the rungs above a screen, in half of `free` bytes each; and the bytes that these use."""
    k, n_ctrs, best = problem.k, problem.n_ctrs, most_listed(problem.k)
    pairs = max(1, free // 2 // _PER_FALLBACK_CELL)
    most = MOST_CTRS if problem.machine.on_cpu else max(MOST_CTRS, pairs // _FEWEST_FALLBACK - best)
    ctrs = clamp(max(FEWEST_CTRS, 4 * k, pairs - best), min(n_ctrs, most))
    fallback_rows = clamp(min(pairs // (ctrs + best), problem.n_smps * problem.m // ctrs), rows)
    per_escalated = products.row_bytes + 6 * products.ctr_block + _PER_BEST * best
    escalated = clamp(free // 2 // per_escalated, rows)
    used = fallback_rows * (ctrs + best) * _PER_FALLBACK_CELL + escalated * per_escalated
    return Blocks(rows, verified_rows, fallback_rows, ctrs, pairs, escalated), used
