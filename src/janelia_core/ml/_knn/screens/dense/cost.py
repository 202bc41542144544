"""What the dense screen takes, of memory and of time: pure arithmetic.

Work is in nanoseconds of one core; only ratios matter, and threads divide all sides alike.
"""

from __future__ import annotations

from typing import NamedTuple

from janelia_core.ml._knn.plan.demand import PER_CELL, PER_LISTED, Cost, Demand, cells_asked
from janelia_core.ml._knn.problem import PER_WORKER, Problem
from janelia_core.ml._knn.screens.dense.formats import FLOAT32, FORMATS, INT8, MOST_INT8, PANEL

_PANELS = (256, 128, 64)  # centres in one product
_FEW_CELLS = 1 << 23  # coordinates of all pairs below which fixed costs decide
_SPARE = 4  # columns beside the coordinates, as packed rows have them at most
_TOGETHER = 4  # rows multiplied together, however few there are
_PER_BYTE = 0.1  # of packed centres, where few rows wait for these to come from memory
PER_CTR = 20
"""Bytes beside the words of a packed centre, in each format: 8 for errors, 12 for what goes into keys."""


class Panels(NamedTuple):
    """How centres are packed and multiplied.

    Attributes:
        panel: Centres in one product.
        pack_bytes: What packed centres may take; above, they are made anew for every block of rows.
        formats: In which scores are computed, one after the other where rows stay in doubt.
        cells: Pairs of which a mask is asked at once, where it is a function.
    """

    panel: int
    pack_bytes: int
    formats: tuple[str, ...]
    cells: int = 0


def why_not(problem: Problem, workers: int) -> str:
    """Return why the screen does not serve, or nothing."""
    if not problem.machine.kernels:
        return "Numba kernels need a CPU tensor and an installed numba"
    if problem.unpaid("dense", 1.0) and problem.n_smps * problem.n_ctrs * max(problem.d, 8) < _FEW_CELLS:
        return "too small to gain from compiled kernels"
    if not _panel(problem, workers):
        return f"blocks of {_PANELS[-1]} centres exceed m or, with n_ctrs, k and d, the memory"
    return ""


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand:
    """Return what the screen asks for: errors of all centres, panels of workers, and packed centres as they fit."""
    chosen, panel = formats(problem), _panel(problem, workers)
    kept = _kept_bytes(problem, chosen, _to_keep(problem, chosen) if problem.keeps else room // 3)
    held = PER_CTR * len(chosen) * problem.n_ctrs + workers * _panel_bytes(problem, panel)
    held += 0 if problem.keeps else kept  # what is kept between searches is beside their memory
    cells = cells_asked(problem) if problem.masked else 0
    held += workers * PER_CELL * cells
    return Demand(
        held=held,
        per_row=_row_bytes(problem, chosen),
        width=_listed(problem, chosen),
        reason=f"scores in {' or '.join(chosen)} by compiled kernels",
        own=Panels(panel, kept, chosen, cells),
        variant=chosen[0],
        kept=kept > 0,
        sifts=True,
    )


def cost(problem: Problem) -> Cost:
    """Return the work of the screen: scores, lists put in order, packing; and when it fails, and what that costs."""
    n_smps, n_ctrs, d, k = problem.n_smps, problem.n_ctrs, problem.d, problem.k
    chosen = FORMATS[formats(problem)[0]]
    rows = -(-n_smps // _TOGETHER) * _TOGETHER
    scores = max(rows * per_pair(chosen.name, d), _PER_BYTE * (4 * chosen.n_words(d) + PER_CTR))
    return Cost(
        work=n_ctrs * scores + n_smps * 190.0 * k + problem.unpaid("dense", n_ctrs * (120.0 + 4.9 * d)),
        most_alike=FLOAT32.slack + k / 2,
        work_of_failure=n_smps * n_ctrs * (7.0 + 0.2 * d),
    )


def per_pair(name: str, d: int) -> float:
    """Return nanoseconds of a score in a format."""
    return 0.45 + 0.0165 * d if name == FLOAT32.name else 0.48 + 0.0112 * d / FORMATS[name].per_word


def formats(problem: Problem) -> tuple[str, ...]:
    """Return the formats that serve, the cheapest first; float32 alone where memory is short."""
    chosen = tuple(name for name in problem.machine.formats if name != INT8.name or problem.d <= MOST_INT8)
    fits = problem.budget >= PER_WORKER and PER_CTR * len(chosen) * problem.n_ctrs <= problem.budget // 4
    return chosen if fits else chosen[-1:]


def _listed(problem: Problem, chosen: tuple[str, ...]) -> int:
    """Return how many candidates a row may have at a time."""
    return problem.k + max(FORMATS[name].slack for name in chosen) + problem.k // 2


def _row_bytes(problem: Problem, chosen: tuple[str, ...]) -> int:
    """Return what a row takes, packed and with its lists."""
    bits = (problem.n_ctrs // 8 + _PANELS[0]) * problem.masked
    return 12 * (problem.d + _SPARE) + PER_LISTED * _listed(problem, chosen) + bits


def _panel(problem: Problem, workers: int) -> int:
    """Return how many centres are taken into one product; 0: not even the fewest fit."""
    chosen = formats(problem)
    for panel in _PANELS:
        # For less than a handful of rows at a time, packing would cost more than the product.
        each = _panel_bytes(problem, panel) + panel // 8 * _row_bytes(problem, chosen) * 3 // 2
        held = PER_CTR * len(chosen) * problem.n_ctrs + workers * each
        if panel <= problem.m and held <= problem.budget // 4 * 3:
            return panel
    return 0


def _panel_bytes(problem: Problem, panel: int) -> int:
    """Return what a worker needs for a panel: packed, and gathered or converted before."""
    return panel * (4 * (problem.d + _SPARE) + (4 if problem.float32 else 8) * problem.d)


def _to_keep(problem: Problem, chosen: tuple[str, ...]) -> int:
    """Return what packed words may take of the bytes that are kept between searches."""
    return problem.keeps - PER_CTR * len(chosen) * (problem.n_ctrs + PANEL)


def _kept_bytes(problem: Problem, chosen: tuple[str, ...], room: int) -> int:
    """Return what packed centres take in as many formats as there is room for, the first ones first."""
    total = 0
    for name in chosen:
        more = 4 * FORMATS[name].n_words(problem.d) * (problem.n_ctrs + _PANELS[0])
        if total + more > room:
            break
        total += more
    return total
