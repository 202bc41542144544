"""The plan of a search: which screen, which blocks, how many bytes. Pure arithmetic; no tensor is touched."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple

from janelia_core.ml._knn.arithmetic.bounds import UNIT32, gamma
from janelia_core.ml._knn.metrics.metric import DISTANCE, UNKNOWN
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.screens.dense.formats import FORMATS, INT8, MOST_INT8
from janelia_core.ml._knn.screens.portable.packing import CUT_BITS, FULL_BITS, WORST_GAMMA, n_columns
from janelia_core.ml._knn.screens.tree.cost import Look, Trees, plan_look, plan_trees
from janelia_core.ml._runtime.machine import Machine

PLAIN = Machine()
MEBIBYTE = 1 << 20
DEFAULT_MEMORY = 256 * MEBIBYTE
LEAST_MEMORY = MEBIBYTE

# Temporaries of survey, packing, verify and settle hold one chunk of coordinates at a time; what a coordinate of it
# takes there, and what a worker needs to be worth starting, was measured (tests/test_memory.py holds plans to it).
_MOST_CHUNK = 1 << 18
_PER_CHUNKED = 60
_CHUNK_SHARE = 256  # bytes of memory, a worker, for each coordinate of the chunk
PER_WORKER = 16 * MEBIBYTE  # below, no thread is started: each takes some MiB, whatever it does
_PER_CANDIDATE = 256  # verify, sort and settle a candidate
_PER_LISTED = 48  # a candidate's score and place in the lists of a row
_PER_CELL = 4  # a score of the tile
_PER_CTR = 20  # of the dense screen: 8 for errors, up to 12 for what stands below coordinates that are not packed
_PER_MASKED = 4  # what a mask adds to a cell: the caller's temporaries, its answer, and its negation
_PER_FALLBACK_CELL = 320  # a pair of the exhaustive rung: distance, masks, padded lists
_PER_BEST = 48  # a place in the lists of the rungs above the screen, while one is lengthened
_FEWEST_CTRS = 64  # at a time, whatever m and the memory: their scores take no more than what is listed of a row

_PANELS = (256, 128, 64)  # centres in one product of the dense screen
_FEWEST_ROWS = 256  # a worker is worth its start from so many rows
_AT_ONCE = 1 << 20  # n_smps * n_ctrs * d up to which float64 distances cost less than a screen
_AT_ONCE_COMPILED = 1 << 26  # the same with compiled kernels
PER_PAIR_OF_OPERATIONS = 24  # bytes of a pair there, by torch operations
FEW_COLUMNS = 6  # up to which all distances cost less than a product and its scan
_FEWEST_SHARED = 1 << 24  # n_smps * n_ctrs * d there from which workers share the rows
_FEW_CELLS = 1 << 23  # n_smps * n_ctrs * d below which fixed costs decide
_MOST_ROWS = 4096
_MOST_CTRS = 4096


@dataclass(frozen=True)
class Plan:
    """What a search will do.

    Attributes:
        n_smps: Rows of x.
        n_ctrs: Centres searched (after dropout).
        d: Coordinates.
        k: Neighbours asked for.
        screen: "tree", "dense" (compiled kernels), "portable" (torch operations), or "none": all are verified.
        reason: Why this screen.
        kernels: Numba kernels may be used.
        exact_products: Float32 products keep all bits of their operands.
        at_once_rows: Rows of which all distances are looked at together, where that comes first; else 0.
        row_block: Rows of x worked on at a time.
        ctr_block: Centres whose scores are held at a time.
        width: Candidates kept for a row.
        operand_bits: Significant bits of the screen's operands.
        keep_packed: Packed centres are kept for all row blocks.
        verified_rows: Rows whose candidates are verified and settled at a time.
        fallback_rows: Rows worked on at a time by the exhaustive rung.
        fallback_ctrs: Centres worked on at a time by the exhaustive rung.
        fallback_pairs: Candidates verified at a time by the rungs above the screen.
        escalated_rows: Rows searched at a time within a proven radius.
        workers: Threads that work on blocks of rows.
        pooled: Work in threads that run torch single-threaded, else in the calling thread.
        panel: Centres in one product of the dense screen.
        pack_bytes: What the dense screen's packed centres may take; above, they are made anew for every block.
        formats: In which the dense screen multiplies, one after the other where rows stay in doubt.
        chunk: Coordinates a stage holds at a time, in each worker.
        workspace_bytes: What the call allocates at most, beyond inputs and outputs.
        metric: What centres are ordered by, see `metrics`.
        look: What to look at in the data before a tree is taken.
        otherwise: The plan that runs where that look, or a value that a tree cannot hold, speaks against it.
    """

    n_smps: int
    n_ctrs: int
    d: int
    k: int
    screen: str
    reason: str
    kernels: bool
    exact_products: bool
    at_once_rows: int
    row_block: int
    ctr_block: int
    width: int
    operand_bits: int
    keep_packed: bool
    verified_rows: int
    fallback_rows: int
    fallback_ctrs: int
    fallback_pairs: int
    escalated_rows: int
    workers: int
    pooled: bool
    panel: int
    pack_bytes: int
    formats: tuple[str, ...]
    chunk: int
    workspace_bytes: int
    metric: str = "euclidean"
    look: Look | None = None
    otherwise: Plan | None = None

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.n_smps} x {self.n_ctrs} points in {self.d} dimensions, k = {self.k}",
                f"screen: {self.screen} ({self.reason})",
                f"blocks: {self.row_block} rows x {self.ctr_block} centres, {self.width} candidates a row, "
                f"packed centres {'kept' if self.keep_packed or self.pack_bytes else 'made anew for every block'}, "
                f"{self.workers} worker{'s' if self.workers > 1 else ''}",
                f"workspace: at most {self.workspace_bytes / MEBIBYTE:.1f} MiB",
            ]
        )


@functools.lru_cache(maxsize=256)
def make_plan(
    n_smps: int,
    n_ctrs: int,
    d: int,
    k: int,
    m: int,
    *,
    machine: Machine = PLAIN,
    float32: bool = True,
    budget: int = DEFAULT_MEMORY,
    metric: str = "euclidean",
    masked: bool = False,
) -> Plan:
    """Plan a search of n_ctrs centres within `budget` bytes where that is possible at all.

    Args:
        n_smps: Rows.
        n_ctrs: Centres searched.
        d: Coordinates.
        k: Neighbours asked for.
        m: Centres whose scores may be held at a time; at least 64, and as many as make no more scores than one row has
            with all centres: these take little, and fewer would only cost time.
        machine: What may be used.
        float32: Both inputs are float32 and all centres are used, so that nothing need be copied.
        budget: Bytes.
        metric: See `metrics`.
        masked: Rows may be denied some centres.
    """
    m = max(m, _FEWEST_CTRS, n_ctrs // max(1, n_smps))
    problem = _Problem(n_smps, n_ctrs, d, k, m, machine, float32, budget, metric, masked)
    screen, reason = _screen(problem)
    plan = _blocks(screen, reason, problem)
    if screen != "dense" or problem.form != DISTANCE:
        return plan
    trees = plan_trees(n_smps, n_ctrs, d, float32, budget // 2)
    if trees is None:
        return replace(plan, reason=f"{reason}; a box tree does not fit the memory")
    look = plan_look(n_smps, n_ctrs, d, k, plan.formats[0], trees)
    if look is None:
        return plan
    tree = _blocks("tree", f"box tree in {d} dimensions, by compiled kernels", problem, trees)
    most = max(plan.workspace_bytes, tree.workspace_bytes)
    plan = replace(plan, workspace_bytes=most)
    return replace(tree, workspace_bytes=most, look=look, otherwise=plan)


class _Problem(NamedTuple):
    """The arguments of `make_plan`."""

    n_smps: int
    n_ctrs: int
    d: int
    k: int
    m: int
    machine: Machine
    float32: bool
    budget: int
    metric: str
    masked: bool

    @property
    def width(self) -> int:
        """Candidates of a row in the portable screen."""
        return min(self.n_ctrs, self.k + 8 + self.k // 4)

    @property
    def at_once(self) -> bool:
        """Whether a look at all distances, some rows at a time, costs less than a screen, and fits."""
        if not self.machine.on_cpu or self.masked or sum(self.at_once_bytes) * self.n_ctrs > self.budget // 2:
            return False
        pairs = self.n_smps * self.n_ctrs
        work = pairs * max(self.d, 1)
        if work <= _AT_ONCE:
            return True
        quick = self.float32 and self.machine.exact_products and pairs <= _AT_ONCE and work <= _AT_ONCE_COMPILED
        return self.compiled and (self.few_ctrs or quick)

    @property
    def at_once_bytes(self) -> tuple[int, int]:
        """Bytes of a centre, and of a pair, while all distances of some rows are looked at."""
        if not self.compiled:
            return 16 * (self.d + 1), PER_PAIR_OF_OPERATIONS
        if self.by_product:
            return 12, 4
        return (8 if self.float32 else 16) * self.d + 12, 1

    @property
    def compiled(self) -> bool:
        """Whether kernels can look at all distances."""
        return self.machine.kernels and self.form == DISTANCE

    @property
    def by_product(self) -> bool:
        """Whether they look at a float32 product first."""
        return self.compiled and self.float32 and self.machine.exact_products and self.d > FEW_COLUMNS

    @property
    def form(self) -> int:
        """The formula by which screens know the metric."""
        return metric_named(self.metric).form

    @property
    def few_ctrs(self) -> bool:
        """Whether a screen would leave too many of the centres."""
        return self.n_ctrs <= 4 * self.width

    @property
    def formats(self) -> tuple[str, ...]:
        """In which the dense screen multiplies, the cheapest first; float32 alone where memory is short."""
        formats = tuple(name for name in self.machine.formats if name != INT8.name or self.d <= MOST_INT8)
        fits = self.budget >= PER_WORKER and _PER_CTR * len(formats) * self.n_ctrs <= self.budget // 4
        return formats if fits else formats[-1:]

    @property
    def listed(self) -> int:
        """Candidates that a row of the dense screen may have at a time."""
        return self.k + max(FORMATS[name].slack for name in self.formats) + self.k // 2

    @property
    def most_workers(self) -> int:
        """How many workers have enough rows and memory to be worth their start."""
        return _clamp(min(self.n_smps // _FEWEST_ROWS, self.budget // PER_WORKER), self.machine.threads)


def _per_row_at_once(problem: _Problem) -> int:
    """Return the bytes of a row there, beside its pairs: its float64 values, and its answer three times."""
    return 16 * problem.d + 32 * problem.k


def _rows_at_once(problem: _Problem, workers: int) -> int:
    """Return how many rows are looked at with all centres together: no more pairs than m centres have with all rows."""
    n_smps, n_ctrs = problem.n_smps, problem.n_ctrs
    per_ctr, per_pair = problem.at_once_bytes
    fit = (problem.budget // 2 // workers - per_ctr * n_ctrs) // (per_pair * n_ctrs + _per_row_at_once(problem))
    return max(1, min(fit, n_smps * problem.m // n_ctrs, -(-n_smps // workers)))


def most_listed(k: int) -> int:
    """Return how many centres of a row the rungs above the screen list before they put them in order."""
    return 2 * k + _FEWEST_CTRS


def _blocks(screen: str, reason: str, problem: _Problem, trees: Trees | None = None) -> Plan:
    """Share the memory out between the blocks of a screen."""
    n_smps, n_ctrs, d, k, m, machine, float32, budget, metric, masked = problem
    width, panel = problem.width, _panel(problem)
    packed = 4 * n_columns(d)  # bytes of a packed centre or row
    dense, at_once = screen in ("dense", "tree"), screen == "none" and problem.at_once
    shared = dense or (at_once and n_smps * n_ctrs * d >= _FEWEST_SHARED)
    workers = problem.most_workers if shared else 1
    pooled = (dense or workers > 1) and budget >= 2 * PER_WORKER
    chunk = _clamp(budget // _CHUNK_SHARE // workers, _MOST_CHUNK)
    fixed = workers * chunk * _PER_CHUNKED + budget // 16  # the latter for allocators and the product's own buffers
    blocks = max(0, budget - fixed)
    kept = _kept_bytes(problem, blocks // 3) if dense else n_ctrs * packed * (n_ctrs * packed <= blocks // 3)
    kept = 0 if screen == "none" else kept
    held = kept + (_PER_CTR * len(problem.formats) * n_ctrs + workers * _panel_bytes(d, panel, float32) if dense else 0)
    if trees is not None:
        kept, held = 0, trees.bytes
    share = max(0, blocks - held) // workers
    ctr_block = _clamp(max(_FEWEST_CTRS, share // (8 if dense else 4) // packed), min(m, n_ctrs, _MOST_CTRS))
    escalation, verification = share // 3 if dense else share // 2, share // 8
    if dense:
        width = problem.listed
        per_row = _dense_row_bytes(problem)
    else:
        per_row = packed + (_PER_CELL + _PER_MASKED * masked) * ctr_block + _PER_LISTED * width
    # A screen's packed block and the rungs above it take turns; its lists outlive both.
    row_block = _clamp((share - escalation - verification) // per_row, min(-(-n_smps // workers), _MOST_ROWS))
    rounds = max(1, -(-n_smps // (workers * row_block)))
    row_block = max(1, -(-n_smps // (workers * rounds)))  # as many blocks for every worker
    verified_rows = _clamp(verification // (_PER_CANDIDATE * width), row_block)
    free = escalation - (ctr_block * packed if not kept or dense else 0)
    pairs, best = max(1, free // 2 // _PER_FALLBACK_CELL), most_listed(k)
    fallback_ctrs = _clamp(max(_FEWEST_CTRS, 4 * k, pairs - best), min(n_ctrs, _MOST_CTRS))
    fallback_rows = _clamp(min(pairs // (fallback_ctrs + best), n_smps * m // fallback_ctrs), row_block)
    per_escalated = packed + 6 * ctr_block + _PER_BEST * best
    escalated_rows = _clamp(free // 2 // per_escalated, row_block)
    used = row_block * per_row + verified_rows * _PER_CANDIDATE * width
    used += fallback_rows * (fallback_ctrs + best) * _PER_FALLBACK_CELL
    used += escalated_rows * per_escalated + ctr_block * packed
    at_once_rows = _rows_at_once(problem, workers) if at_once else 0
    per_ctr, per_pair = problem.at_once_bytes
    looked_at = (
        workers * (per_ctr * n_ctrs + at_once_rows * (per_pair * n_ctrs + _per_row_at_once(problem))) if at_once else 0
    )
    return Plan(
        n_smps=n_smps,
        n_ctrs=n_ctrs,
        d=d,
        k=k,
        screen=screen,
        reason=reason,
        metric=metric,
        kernels=machine.kernels,
        exact_products=machine.exact_products,
        at_once_rows=at_once_rows,
        row_block=row_block,
        ctr_block=ctr_block,
        width=width,
        operand_bits=FULL_BITS if machine.exact_products else CUT_BITS,
        keep_packed=bool(kept) and not dense,
        verified_rows=verified_rows,
        fallback_rows=fallback_rows,
        fallback_ctrs=fallback_ctrs,
        fallback_pairs=pairs,
        escalated_rows=escalated_rows,
        workers=workers,
        panel=panel,
        pack_bytes=kept if dense else 0,
        formats=problem.formats,
        pooled=pooled,
        chunk=chunk,
        workspace_bytes=max(workers * looked_at, fixed + held + workers * used),
    )


def _screen(problem: _Problem) -> tuple[str, str]:
    n_smps, n_ctrs, d, width, machine = problem.n_smps, problem.n_ctrs, problem.d, problem.width, problem.machine
    if problem.at_once:
        return "none", "small enough for one look at all distances"
    if problem.few_ctrs:
        return "none", f"{n_ctrs} centres are few for {width} candidates a row: each is verified"
    if problem.form == UNKNOWN:
        return "none", f"no screen knows the metric {problem.metric}"
    if gamma(n_columns(d), UNIT32) > WORST_GAMMA:
        return "none", f"float32 sums over {d} coordinates exclude nothing"
    torch_only = ""
    if not machine.kernels:
        torch_only = "Numba kernels need a CPU tensor and an installed numba"
    elif problem.masked:
        torch_only = "the compiled screens take no masks"
    elif n_smps * n_ctrs * max(d, 8) < _FEW_CELLS:
        torch_only = "too small to gain from compiled kernels"
    elif not _panel(problem):
        torch_only = f"blocks of {_PANELS[-1]} centres exceed m or, with n_ctrs, k and d, the memory"
    if torch_only:
        return "portable", f"torch operations: {torch_only}"
    return "dense", f"scores in {' or '.join(problem.formats)} by compiled kernels"


def _panel(problem: _Problem) -> int:
    """Return how many centres the compiled screens may take into one product; 0: not even the fewest fit."""
    _, n_ctrs, d, _, m, _, float32, budget, *_ = problem
    for panel in _PANELS:
        # For less than a handful of rows at a time, packing would cost more than the product.
        each = _panel_bytes(d, panel, float32) + panel // 8 * _dense_row_bytes(problem) * 3 // 2
        if panel <= m and _PER_CTR * len(problem.formats) * n_ctrs + problem.most_workers * each <= budget // 4 * 3:
            return panel
    return 0


def _panel_bytes(d: int, panel: int, float32: bool) -> int:
    """Return what a worker needs for a panel: packed, and gathered or converted before."""
    return panel * (4 * n_columns(d) + (4 if float32 else 8) * d)


def _dense_row_bytes(problem: _Problem) -> int:
    """Return what a row takes in the dense screen, packed and with its lists."""
    return 3 * 4 * n_columns(problem.d) + _PER_LISTED * problem.listed


def _kept_bytes(problem: _Problem, room: int) -> int:
    """Return what packed centres take in as many formats as there is room for, the first ones first."""
    total = 0
    for name in problem.formats:
        more = 4 * FORMATS[name].n_words(problem.d) * (problem.n_ctrs + _PANELS[0])
        if total + more > room:
            break
        total += more
    return total


def _clamp(value: int, most: int) -> int:
    return max(1, min(value, most))
