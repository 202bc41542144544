"""What the portable screen takes of memory: pure arithmetic."""

from __future__ import annotations

import math

from janelia_core.ml._knn.plan.demand import PER_LISTED, Cost, Demand, Products
from janelia_core.ml._knn.problem import FEWEST_CTRS, MOST_CTRS, Problem, clamp

FULL_BITS = 24  # float32 operands as they are
CUT_BITS = 8  # unchanged by TF32 (11 bits) and bfloat16 (8 bits)
WORST_GAMMA = 2.0**-6  # beyond (d about 2^18) the margins above are not worth a product

GROUPED = 8
"""Scores of which the maximum is taken first (`largest`); measured."""
_PER_CELL = 4  # a score of the tile
_PER_MEMBER = 11 * GROUPED  # bytes for each of the w largest that `largest` takes beside a tile and its maxima
_AT_ONCE = 1 << 21  # scores that are held at a time on a CPU: they stay in the cache that its cores share
_MOST_OF_FEW_COLUMNS, _FEW_COLUMNS = 1 << 14, 128  # centres at a time, where a block of them stays there, too
_MANY_ROWS = 1024  # of which a part has no more scores with so many centres than all have with MOST_CTRS
_IN_DOUBT = 1024  # rows that are taken together, on an accelerator
_PER_CELL_THERE = 1  # what topk takes of it on an accelerator, where several blocks of threads share a row
_PER_MASKED = 4  # what a mask adds to a cell: the caller's temporaries, its answer, and its negation


def columns(d: int, bits: int) -> int:
    """Return the columns of a packed row: coordinates, bias, margin; the bias takes three where bits are cut."""
    return d + (2 if bits == FULL_BITS else 4)


def n_columns(d: int) -> int:
    """Return the largest number of columns a packed row can have."""
    return columns(d, CUT_BITS)


def _packed_bytes(problem: Problem) -> int:
    """Return the bytes of a packed centre or row."""
    return 4 * n_columns(problem.d)


def width(problem: Problem) -> int:
    """Return how many candidates are kept for a row."""
    return min(problem.n_ctrs, problem.k + 8 + problem.k // 4)


def narrow(problem: Problem) -> int:
    """Return how many are nearly always enough: fewer are to be verified, and other rows are screened once more."""
    return min(problem.n_ctrs, problem.k + 2 + problem.k // 32)


def per_cell(problem: Problem) -> int:
    """Return the bytes of a pair of the tile."""
    return _PER_CELL + _PER_MASKED * problem.masked + (0 if problem.machine.on_cpu else _PER_CELL_THERE)


def are_grouped(columns: int, width: int) -> bool:
    """Tell whether the `width` largest of so many scores of a row are sought by maxima of groups (`largest`)."""
    return columns // GROUPED >= 2 * width


def rows_at_once(products: Products, n_rows: int) -> int:
    """Return of how many rows out of n_rows scores are held at a time: of no more in all than a plan has promised."""
    promised = n_rows * _row_of_tile(products, min(products.ctr_block, MOST_CTRS))
    few_columns = products.row_bytes <= 4 * n_columns(_FEW_COLUMNS)  # of others, products take longer than the tile
    most = clamp((_AT_ONCE if few_columns else 2 * _AT_ONCE) // products.ctr_block, n_rows)
    most = clamp(min(most, promised // _row_of_tile(products, products.ctr_block)), n_rows)
    return -(-n_rows // -(-n_rows // most)) if n_rows else 1


def _row_of_tile(products: Products, ctrs: int) -> int:
    """Return the bytes of a row of a tile, and of the search for its largest scores."""
    return ctrs * (_PER_CELL + _PER_CELL // GROUPED + 1) + _PER_MEMBER * products.width


def fallback(problem: Problem, room: int) -> Products:
    """Return the same for rows that another screen has left in doubt: few of them."""
    return products(problem._replace(n_smps=min(problem.n_smps, _IN_DOUBT)), room)


def products(problem: Problem, room: int, keep_packed: bool = False) -> Products:
    """Return how rows and centres are multiplied, where a block of packed centres may take `room` bytes."""
    fit = max(FEWEST_CTRS, room // _packed_bytes(problem))
    # On an accelerator every operation costs a launch: all rows at once, and as many centres as the memory allows.
    most = max(MOST_CTRS, room // per_cell(problem) // max(1, problem.n_smps))
    if problem.machine.on_cpu:
        many = problem.n_smps >= _MANY_ROWS and problem.d <= _FEW_COLUMNS
        most = _MOST_OF_FEW_COLUMNS if many else MOST_CTRS
    return Products(
        ctr_block=clamp(fit, min(problem.m, problem.n_ctrs, most)),
        width=width(problem),
        operand_bits=FULL_BITS if problem.machine.exact_products else CUT_BITS,
        keep_packed=keep_packed,
        row_bytes=_packed_bytes(problem),
    )


def cost(problem: Problem) -> Cost:
    """Return what it costs: more than whatever else serves."""
    return Cost(math.inf)


def demand(problem: Problem, room: int, workers: int, rival: Cost, keep: bool = True) -> Demand:
    """Return what the screen asks for: a tile of scores and a list for each row, and packed centres if they fit."""
    kept = problem.n_ctrs * _packed_bytes(problem)
    kept = kept if keep and kept <= room // (3 if problem.machine.on_cpu else 2) else 0
    chosen = products(problem, max(0, room - kept) // workers // 4, kept > 0)
    # Scores of all rows at once are made where a radius is asked for, with MOST_CTRS at a time.
    at_a_time = min(chosen.ctr_block, MOST_CTRS) if problem.machine.on_cpu else chosen.ctr_block
    per_row = _packed_bytes(problem) + per_cell(problem) * at_a_time + PER_LISTED * chosen.width
    per_row += _row_of_tile(chosen, at_a_time) - _PER_CELL * at_a_time if problem.machine.on_cpu else 0
    return Demand(kept, per_row, chosen.width, "torch operations", kept=kept > 0, products=chosen)
