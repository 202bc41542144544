"""A tree over images of centres, planted when a look at the rows says that it pays; and the meeting of both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.leading import Leading, leading, least_outside
from janelia_core.ml._knn.data.points import Points, as_float64
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.rows import Rows, parts
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._knn.screens.tree.cost import walk_work
from janelia_core.ml._knn.screens.tree.leading.cost import MOST_DIRECTIONS, Rival, longest, rival_of
from janelia_core.ml._knn.screens.tree.leading.look import MOST_REST, Told, look
from janelia_core.ml._knn.screens.tree.leading.screen import Images, LeadingScreen
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._runtime.locks import ForkSafeLock
from janelia_core.ml._runtime.workers import Workers

_UNSEEN = 1 << 10  # columns at most where nobody looks: all of them are taken, so that lists prove something
_MOST_WORK = 0.7  # of the rival's: what is verified comes on top
_ASKED, _MOST_FAILED = 128, 0.1  # rows whose lists are tried, and of which the first may fail
_SHARE = 2  # of a chunk, for coordinates taken at a time
_AGAIN = 4  # times as many are listed where the first list told too little


def glance(ctrs: Points) -> float:
    """Return which share of a few centres lies outside leading directions, or less: soon told where it is too much."""
    return least_outside(ctrs, MOST_DIRECTIONS)


def tells_too_little(outside: float) -> bool:
    """Tell whether leading directions do, where so much lies outside."""
    return outside > MOST_REST


class Planted(NamedTuple):
    """What stands.

    Attributes:
        leading: The directions.
        tree: Over the images of centres.
        off: How far these may be off.
        gap: See `look.Told`.
        sifted: The centres.
    """

    leading: Leading
    tree: BoxTree
    off: float
    gap: float
    sifted: Centres


class PreparedLeading:
    """Trees over images, for each number of centres that are left of copies; for any number of searches."""

    def __init__(self) -> None:
        self._planted: dict[int, Planted] = {}  # never changed, but replaced
        self._lock = ForkSafeLock()

    @property
    def stands(self) -> bool:
        """Whether later searches find a tree."""
        return bool(self._planted)

    @property
    def nbytes(self) -> int:
        """What is held."""
        return sum(one.tree.nbytes + one.tree.ctrs.values.nbytes for one in self._planted.values())

    def meet(self, asked: Asked) -> Meeting | None:
        """Bring the rows; None where leading directions tell too little, or a walk takes too long."""
        plan, workers, rival = asked.plan, asked.workers, rival_of(asked.plan)
        finite = asked.centres.finite(Reader(workers, plan.kernels))
        with self._lock:
            found, gap = (None, 0.0) if self.stands else self._looked(asked, finite.points)
            if found is None and not self.stands:
                return None
            sifted = finite.without_copies(plan.k, plan.workspace_bytes // 2, workers)
            planted = self._planted.get(len(sifted)) or self._plant(sifted, found, gap, workers)
            meeting = LeadingMeeting(asked, planted)
            if rival is not None and not (meeting.pays(rival) and workers.once(meeting.proves)):
                return None
            self._planted = {**self._planted, len(sifted): planted}
        return meeting

    def _looked(self, asked: Asked, ctrs: Points) -> Told:
        """Return which directions tell enough; of them none, where a look says that no number does."""
        report, once = asked.report, asked.workers.once
        if rival_of(asked.plan) is None:
            return Told(once(lambda: leading(ctrs, ctrs.d)) if ctrs.d <= _UNSEEN else None, 0.0)
        outside = asked.told("leading", lambda: glance(ctrs))
        if not tells_too_little(outside):
            rough = once(lambda: leading(ctrs, MOST_DIRECTIONS))
            outside = float(rough.share[-1])
        report.look = f"{outside:.2f} of a sample, or more, lies outside the leading directions"
        if tells_too_little(outside):
            return Told(None, 0.0)
        told: Told = once(lambda: look(asked.x, ctrs, rough, asked.plan.k))
        if told.leading is None:
            report.look = f"more than {MOST_DIRECTIONS} directions tell rows apart"
        return told

    def _plant(self, sifted: Centres, found: Leading | None, gap: float, workers: Workers) -> Planted:
        """Plant a tree over images, in directions that are known already if this is not the first."""
        if found is None:
            first = next(iter(self._planted.values()))
            found, gap = first.leading, first.gap
        images, off = found.of_all(sifted.points, workers)
        return Planted(found, BoxTree(Points(images), len(images), workers), off, gap, sifted)


class LeadingMeeting(Meeting):
    """Rows in the order of the leaves in which their images lie.

    Args:
        asked: The search.
        planted: The tree.
    """

    def __init__(self, asked: Asked, planted: Planted) -> None:
        k, width = asked.plan.k, longest(asked.plan.k)
        self._images, off = planted.leading.of_all(asked.x, asked.workers)
        known = (self._images, off) if asked.x.subset is None else None

        def lister(which: str) -> LeadingScreen:
            near = which == "near"
            images = Images(planted.tree, k, width if near else _AGAIN * width, planted.gap if near else math.inf)
            return LeadingScreen(planted.leading, images, planted.off, planted.sifted.points, known)

        super().__init__(Rungs(lister, ("near", "far")), compiled=True)
        self._asked, self._planted = asked, planted
        self._order = planted.tree.order(self._images, asked.workers)

    def pays(self, rival: Rival) -> bool:
        """Tell whether a few rows say that all take less than the rival's work."""
        asked, tree = self._asked, self._planted.tree
        problem, screen = asked.plan.problem, self.listers[0]
        assert isinstance(screen, LeadingScreen)
        walk = screen.images.walk(self._images, self._order, rival.rows, asked.workers)
        work = walk_work(walk, problem.n_smps, len(tree.ctrs), tree.d, longest(problem.k))
        asked.report.look = (
            f"{rival.rows} rows walked a box tree in {tree.d - 1} leading directions and the length of the "
        )
        asked.report.look += f"rest: {work / rival.work:.2f} of the dense product's work"
        return work <= _MOST_WORK * rival.work

    def proves(self) -> bool:
        """Tell whether lists prove the answers of a few rows: others would take long."""
        x, k = self._asked.x, self._asked.plan.k
        positions = self._order[:: -(-len(self._order) // _ASKED)]
        numbers, left = x.row_numbers(positions), []
        for rung in range(len(self.listers)):
            rows = Rows(x.take(numbers), numbers)
            left.append(_unproven(rows, self._planted.sifted.points, self.listers[rung].candidates(rows), k))
            numbers = numbers[left[-1]]
            if len(numbers) == 0:
                break
        failed = [int(one.sum()) for one in left]
        self._asked.report.look += f"; lists of {failed[0]} of {len(positions)} told too little"
        return failed[0] <= _MOST_FAILED * len(positions) and len(numbers) == 0

    def turns(self) -> Iterator[Tensor | None]:
        """Yield all rows, neighbours one after the other."""
        yield self._order


def _unproven(rows: Rows, ctrs: Points, found: Candidates, k: int) -> Tensor:
    """Tell which rows (r,) have less than k listed centres that are surely nearer than all others, roughly."""
    values, listed = as_float64(rows.values), found.indices
    if listed.shape[1] < k:
        return torch.ones(len(listed), dtype=torch.bool, device="cpu")
    far = torch.empty(len(listed), dtype=torch.float64, device="cpu")
    for some in parts(len(listed), max(1, ctrs.chunk // _SHARE // (listed.shape[1] * ctrs.d))):
        near = (as_float64(ctrs.take(listed[some].clamp(min=0))) - values[some, None]).square_().sum(2)
        far[some] = near.masked_fill_(listed[some] < 0, torch.inf).kthvalue(k, dim=1).values
    return far >= found.excluded
