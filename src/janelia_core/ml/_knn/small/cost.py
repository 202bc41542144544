"""Where a look at all distances at once costs less than a screen, and what it takes: pure arithmetic."""

from __future__ import annotations

from janelia_core.ml._knn.metrics.metric import DISTANCE, FORMS
from janelia_core.ml._knn.plan.demand import PER_CELL
from janelia_core.ml._knn.problem import Problem

MOST_WORK = 1 << 20  # n_smps * n_ctrs * d up to which float64 distances cost less than a screen
MOST_BESIDE = 1 << 15  # the same where centres stand prepared for one
_MOST_WORK_COMPILED = 1 << 26  # the same with compiled kernels
_MOST_PAIRS = 1 << 20
_MOST_TABLE = 1 << 20  # coordinates of centres: of more, a pass by the direct screen reads each but once
_MOST_PAIRS_OF_LANES = 1 << 22  # up to which sixteen rows at a time cost less than a tree or packed centres
_MOST_WORK_OF_LANES = 1 << 28
_PER_PAIR_OF_LANES = 6
_FEW = 4  # rows of LANES
_FEWEST_CTRS = 1 << 9  # of fewer, lists are most
_FEWEST_PASSED = 1 << 18  # coordinates of centres: for less, fixed costs decide
FEWEST_SHARED = 1 << 24  # coordinates of pairs from which workers share the rows: half a millisecond
PER_PAIR_OF_OPERATIONS = 24  # bytes of a pair, by torch operations
FEW_COLUMNS = 6  # up to which all distances cost less than a product and its scan
MOST_BY_LANES = 32  # neighbours, a row's own included, that the kernel of lanes finds: it sorts twice as many a row
LANES = 16  # rows that it takes together


def pays(problem: Problem, few_ctrs: bool) -> bool:
    """Tell whether a look at all distances, some rows at a time, costs less than a screen, and fits.

    few_ctrs: A screen would leave too many of the centres.
    """
    machine = problem.machine
    if not machine.on_cpu or sum(_bytes(problem)) * problem.n_ctrs > problem.budget // 2:
        return False
    if problem.masked and problem.d == 0:
        return False
    pairs = problem.n_smps * problem.n_ctrs
    work = pairs * max(problem.d, 1)
    passes = problem.float32 and problem.form == DISTANCE and not (few_ctrs or problem.masked)
    if passes and is_for_a_pass(problem.n_smps, problem.n_ctrs, problem.d) and _compiled(problem):
        return False
    if work <= MOST_WORK:
        return True
    if takes_lanes(problem.form, problem.k):
        work = work_of_lanes(problem.n_smps, problem.n_ctrs, problem.d)
        quick = problem.float32 and pairs <= _MOST_PAIRS_OF_LANES and work <= _MOST_WORK_OF_LANES
    else:
        quick = problem.float32 and machine.exact_products and pairs <= _MOST_PAIRS and work <= _MOST_WORK_COMPILED
    return _compiled(problem) and (few_ctrs or (quick and problem.n_ctrs * problem.d <= _MOST_TABLE))


def is_for_a_pass(n_smps: int, n_ctrs: int, d: int) -> bool:
    """Tell whether rows are so few that the kernel of lanes would do most of its work for none of them.

    A pass over the centres as they are stored (the direct screen) takes half as long, or less.
    """
    return n_smps <= _FEW and n_ctrs >= _FEWEST_CTRS and n_ctrs * d >= _FEWEST_PASSED


def is_shared(problem: Problem) -> bool:
    """Tell whether workers share the rows."""
    return work_of_lanes(problem.n_smps, problem.n_ctrs, problem.d) >= FEWEST_SHARED


def work_of_lanes(n_smps: int, n_ctrs: int, d: int) -> int:
    """Return the work of the kernel of lanes in coordinates of pairs: a pair costs as much as some, whatever d."""
    return max(n_smps, LANES) * n_ctrs * (d + _PER_PAIR_OF_LANES)


def rows_at_once(problem: Problem, workers: int) -> int:
    """Return how many rows are looked at with all centres together: no more pairs than m centres have with all rows."""
    n_smps, n_ctrs = problem.n_smps, problem.n_ctrs
    per_ctr, per_pair = _bytes(problem)
    fit = (problem.budget // 2 // workers - per_ctr * n_ctrs) // (per_pair * n_ctrs + _per_row(problem))
    return max(1, min(fit, n_smps * problem.m // n_ctrs, -(-n_smps // workers)))


def held(problem: Problem, workers: int, rows: int) -> int:
    """Return the bytes of all workers that look at so many rows each."""
    per_ctr, per_pair = _bytes(problem)
    return workers * (per_ctr * problem.n_ctrs + rows * (per_pair * problem.n_ctrs + _per_row(problem)))


def time_of_lanes(n_smps: int, n_ctrs: int, d: int, k: int) -> float:
    """Return the nanoseconds of one core that the kernel of lanes takes, as measured on a Zen 4 (AVX-512)."""
    return n_smps * (22.0 + 26.0 * k + n_ctrs * (0.1 + 0.028 * d))


def takes_lanes(form: int, k: int) -> bool:
    """Tell whether the kernel of lanes finds so many neighbours by a form of metric."""
    return form in FORMS and k <= MOST_BY_LANES


def held_by_lanes(n_ctrs: int, d: int, k: int, itemsize: int) -> int:
    """Return the bytes that the kernel of lanes holds: keys, the columns and lists of a block of rows, and norms."""
    return _per_ctr_of_lanes(itemsize) * (n_ctrs + 4) + LANES * (itemsize * (d + 4 * k) + 32 * (k + LANES))


def _per_ctr_of_lanes(itemsize: int) -> int:
    return itemsize * (LANES + 2) + 10


def _compiled(problem: Problem) -> bool:
    """Tell whether kernels can look at all distances."""
    return problem.machine.kernels and (problem.form == DISTANCE or _in_lanes(problem))


def _in_lanes(problem: Problem) -> bool:
    return takes_lanes(problem.form, problem.k)


def _bytes(problem: Problem) -> tuple[int, int]:
    """Return the bytes of a centre, and of a pair."""
    per_ctr, per_pair = _bytes_unmasked(problem)
    return per_ctr, per_pair + PER_CELL * problem.masked


def _bytes_unmasked(problem: Problem) -> tuple[int, int]:
    if not _compiled(problem):
        return 16 * (problem.d + 1), PER_PAIR_OF_OPERATIONS
    if _in_lanes(problem):
        copies = 0 if problem.float32 else 8 * problem.d  # of other dtypes, as float64
        return _per_ctr_of_lanes(4 if problem.float32 else 8) + copies, 1
    if problem.float32 and problem.machine.exact_products and problem.d > FEW_COLUMNS:  # a float32 product comes first
        return 12, 4
    return (8 if problem.float32 else 16) * problem.d + 12, 1


def _per_row(problem: Problem) -> int:
    """Return the bytes of a row, beside its pairs: its float64 values, and its answer three times."""
    return 16 * problem.d + 32 * problem.k
