"""What a box tree costs beside a dense product, and what it holds: pure arithmetic on shapes and counts.

Work is in nanoseconds of one core; only ratios matter, and threads divide both sides alike. The constants of the tree
were fitted to kernels timed on a Zen 4 (AVX-512) over d = 1..32, n_ctrs = 2,500..300,000 and five kinds of data
(benchmarks/choice.py checks the choices that follow from them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from janelia_core.ml._knn.metrics.metric import DISTANCE, OF_GAPS
from janelia_core.ml._knn.plan.demand import PER_LISTED, Cost, Demand
from janelia_core.ml._knn.problem import Problem

_MOST_COLUMNS = 32
MOST_K = 128
"""Beyond, no tree pays: its lists are kept sorted by insertion."""

_LEAF = 16
_CHUNK = 8
_CACHED = 6 << 20  # bytes of a tree that caches hold
_FAR = 1.6  # times as long beyond
_CHEAP = 0.25  # share of the dense screen's work that building a tree to look at may cost
_GAIN = 0.8  # of it: where no tree takes less, one pays only if the dense screen fails
_KIND = 8  # dimensions in which hardly any data make a tree slow, so that a sample of it would tell nothing new
_SPARSE = (6, 12)  # every so many-th centre tells less, the fewer there are: they hardly cluster
_GLANCED, _GLANCED_EACH, _TIMES = 1024, 64, 4  # centres of a glance, for each neighbour, and so many times as many
_FEWEST_ROWS, _MOST_ROWS = 32, 256  # that look around
_PER_ORDERED = 13  # bytes of a row while rows are put in order
_MOST_ORDERED, _ROWS_OF_CTR = 1 << 16, 2  # of more rows those asked for one after the other lie beyond the caches
_FEWEST_ORDERED = 1 << 14  # rows that share walks only if neighbours are among them
_FEWEST_CTRS = 1 << 12  # of one tree among several
_LONGER = 4  # times as long is a list where the first is not certified


class Walk(NamedTuple):
    """What walking the tree took, per row.

    Attributes:
        boxes: Boxes tested, of which a packet of rows shares each.
        leaves: Leaves scanned after the first.
        hits: Centres put on a list after those of the first leaf.
    """

    boxes: float
    leaves: float
    hits: float


class Trees(NamedTuple):
    """How trees and rows share the memory.

    Attributes:
        parts: Trees, each over every `parts`-th centre, searched one after the other.
        rows: Rows whose order is held at a time.
        bytes: What a tree and an order take.
    """

    parts: int
    rows: int
    bytes: int


def plan_trees(n_smps: int, n_ctrs: int, d: int, float32: bool, room: int, stands: bool = False) -> Trees | None:
    """Return how `room` bytes are shared, or None if they hold no tree that excludes much.

    float32 tells whether all inputs are float32 and centres can be read in place; others are copied. A tree over all
    centres that stands takes none of them.
    """
    per_ctr = 0 if stands else 5 * d + 7 + (0 if float32 else 12 * d)
    most = min(n_smps, max(_MOST_ORDERED, _ROWS_OF_CTR * n_ctrs))
    whole = Trees(1, most, per_ctr * n_ctrs + _PER_ORDERED * most)
    if whole.bytes <= room:
        return whole
    rows = min(most, max(_FEWEST_ORDERED, room // 8 // _PER_ORDERED))
    left = room - _PER_ORDERED * rows
    if stands or per_ctr * n_ctrs <= left:
        return Trees(1, rows, per_ctr * n_ctrs + _PER_ORDERED * rows)
    per_ctr += 8 + (4 * d if float32 else 0)  # the row numbers and, while a tree is built, the values of its centres
    count = -(-per_ctr * n_ctrs // max(1, left))
    if left <= 0 or n_ctrs // count < _FEWEST_CTRS:
        return None
    return Trees(count, rows, per_ctr * -(-n_ctrs // count) + _PER_ORDERED * rows)


def build_work(n_ctrs: int, d: int) -> float:
    """Return the work of building a tree."""
    return n_ctrs * math.log2(max(2.0, n_ctrs / _LEAF)) * (13.0 + 1.3 * d)


def walk_work(walk: Walk, n_smps: int, n_ctrs: int, d: int, k: int) -> float:
    """Return the work of walking n_smps rows, and of putting their answers in order."""
    boxes, leaves = walk.boxes * (13.5 + 1.5 * d), walk.leaves * (2.0 + 0.7 * d)
    far = _FAR if (5 * d + 7) * n_ctrs > _CACHED else 1.0
    hits = walk.hits * (3.0 + 3.2 * max(0, -(-(k + 2) // _CHUNK) - 2))
    return n_smps * (far * (boxes + leaves) + hits + 150.0 + 10.0 * k)


@dataclass(frozen=True)
class Look:
    """What to look at before a tree is taken: a few rows walk it, which tells what all of them will take.

    Attributes:
        n_smps: Rows of x.
        n_ctrs: Centres.
        d: Coordinates.
        k: Neighbours asked for.
        rows: Rows that walk.
        strides: Trees to build for it, one after the other: over every so many-th centre; the last one stays. Empty:
            a tree pays only where the dense screen fails.
        dense: Work of the dense screen.
        trees: How trees and rows share the memory.
        most_alike: How many centres that scores cannot part the dense screen lists.
        failed: What is added to its work where they are more.
    """

    n_smps: int
    n_ctrs: int
    d: int
    k: int
    rows: int
    strides: tuple[int, ...]
    dense: float
    trees: Trees
    most_alike: float = math.inf
    failed: float = 0.0

    def facing(self, crowd: float) -> Look:
        """Return what to look at where a row's scores cannot part `crowd` centres."""
        if crowd <= self.most_alike:
            return self
        return replace(self, strides=(self.trees.parts,), dense=self.dense + self.failed, most_alike=math.inf)

    def share(self, walk: Walk, stride: int) -> float:
        """Return the tree's work that is still to come, over the dense screen's, after a walk in such a tree."""
        count, still = self.trees.parts, 0.0
        if stride > count:
            walk = _grown(walk, self.n_ctrs / stride / _LEAF, stride / count)
            still = build_work(self.n_ctrs, self.d)
        elif count > 1:
            still = build_work(self.n_ctrs, self.d)
        return (still + count * walk_work(walk, self.n_smps, self.n_ctrs // count, self.d, self.k)) / self.dense

    def in_words(self, share: float, stride: int, remembered: bool = False) -> str:
        """Put in words what a walk in such a tree told."""
        tree = "a box tree" if stride == 1 else f"a box tree over 1 in {stride} centres"
        if self.trees.parts > 1:
            tree += (
                f", one of {self.trees.parts} that the memory holds one by one" if stride == self.trees.parts else ""
            )
        rows = "rows of a search before" if remembered else f"{self.rows} rows"
        return f"{rows} walked {tree}: {share:.2f} of the dense product's work"


def plan_look(problem: Problem, dense: Cost, trees: Trees) -> Look | None:
    """Return what to look at in the data, or None where no data makes a tree pay."""
    n_smps, n_ctrs, d, k = problem.n_smps, problem.n_ctrs, problem.d, problem.k
    build = problem.unpaid("tree", build_work(n_ctrs, d))
    least = build + trees.parts * walk_work(_easiest(n_ctrs, k), n_smps, n_ctrs // trees.parts, d, k)
    if least > dense.work + dense.work_of_failure:
        return None
    last = trees.parts
    strides: tuple[int, ...] = ()
    if least <= _GAIN * dense.work:
        sparser = [n for n in _SPARSE if n > last and build_work(n_ctrs // n, d) <= _CHEAP * dense.work]
        cheap = build == 0 or d <= _KIND or not sparser or build_work(n_ctrs // last, d) <= _CHEAP * dense.work
        strides = (last,) if cheap else (sparser[0], last)
    rows = min(_MOST_ROWS, max(_FEWEST_ROWS, n_smps // 64))
    return Look(n_smps, n_ctrs, d, k, rows, strides, dense.work, trees, dense.most_alike, dense.work_of_failure)


def glanced_centres(k: int) -> int:
    """Return among how many centres a glance looks before a tree is planted."""
    return max(_GLANCED, _GLANCED_EACH * k)


def glances(problem: Problem, look: Look | None) -> bool:
    """Tell whether a glance may spare planting a tree: in few dimensions hardly any data are without one that pays."""
    if look is None or not look.strides or look.trees.parts > 1 or problem.unpaid("tree", 1.0) == 0.0:
        return False
    many = look.n_ctrs >= _TIMES * glanced_centres(look.k)
    return many and look.d > _KIND and problem.form == DISTANCE


def why_not(problem: Problem, workers: int) -> str:
    """Return why trees do not serve, or nothing."""
    usual = problem.machine.kernels and not problem.masked and problem.form in OF_GAPS
    if not usual:
        return "trees want Numba kernels, distances and no mask"
    few = problem.d <= _MOST_COLUMNS and problem.k <= MOST_K
    return "" if few else f"trees want at most {_MOST_COLUMNS} dimensions and {MOST_K} neighbours"


def cost(problem: Problem) -> Cost:
    """Return what trees take at least."""
    n_smps, n_ctrs, d, k = problem.n_smps, problem.n_ctrs, problem.d, problem.k
    return Cost(problem.unpaid("tree", build_work(n_ctrs, d)) + walk_work(_easiest(n_ctrs, k), n_smps, n_ctrs, d, k))


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
    """Return what trees ask for, or why none is taken: a sentence where that is news, else nothing."""
    if rival.work == math.inf:
        return ""  # without a screen to give way to, where the data speak against trees
    stands = problem.unpaid("tree", math.inf) == 0
    trees = plan_trees(problem.n_smps, problem.n_ctrs, problem.d, problem.float32, problem.budget // 2, stands)
    if trees is None:
        return "a box tree does not fit the memory"
    look = plan_look(problem, rival, trees)
    if look is None:
        return ""
    width = _LONGER * (problem.k + 2) + 16
    return Demand(
        held=trees.bytes,
        per_row=12 * problem.d + PER_LISTED * width,
        width=width,
        reason=f"box tree in {problem.d} dimensions, by compiled kernels",
        own=look,
        kept=trees.parts == 1,
        sifts=True,
    )


def _easiest(n_ctrs: int, k: int) -> Walk:
    """Return what the easiest data would ask of a row."""
    return Walk(boxes=math.log2(max(2.0, n_ctrs / _LEAF)) / 4, leaves=2.0, hits=k)


def _grown(walk: Walk, n_leaves: float, times: float) -> Walk:
    """Extrapolate a walk in a tree of n_leaves over a sample to one of so many `times` as many.

    Leaves opened grow with the number of centres where nearly all are opened, and hardly where few are. Measured
    for uniform and Gaussian data: by a power of 0.8 where 98 % are, 0.45 where 63 %, 0.2 where 20 % and less.
    """
    factor = times ** max(0.2, 0.85 * min(1.0, walk.leaves / n_leaves))
    return Walk(walk.boxes * factor, walk.leaves * factor, walk.hits)
