"""A tree over images of centres, planted when a look at the rows says that it pays; and the meeting of both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.leading import Leading, leading
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._knn.screens.tree.cost import walk_work
from janelia_core.ml._knn.screens.tree.leading.cost import MOST_DIRECTIONS, Rival, longest
from janelia_core.ml._knn.screens.tree.leading.look import MOST_REST, look
from janelia_core.ml._knn.screens.tree.leading.screen import Images, LeadingScreen
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._runtime.locks import ForkSafeLock

_FEW = 6  # directions where nobody looks
_MOST_WORK = 0.7  # of the rival's: what is verified comes on top
_AGAIN = 4  # times as many are listed where the first list told too little


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
        plan, workers, rival = asked.plan, asked.workers, asked.plan.own
        finite = asked.centres.finite(Reader(workers, plan.kernels))
        with self._lock:
            if rival is not None and not self.stands:
                rough = workers.once(lambda: leading(finite.points, MOST_DIRECTIONS))
                asked.report.look = f"{float(rough.share[-1]):.2f} of a sample lies outside the leading directions"
                if float(rough.share[-1]) > MOST_REST:
                    return None
            sifted = finite.without_copies(plan.k, plan.workspace_bytes // 2, workers)
            planted = self._planted.get(len(sifted)) or _plant(asked, sifted)
            if planted is None:
                return None
            meeting = LeadingMeeting(asked, planted)
            if rival is not None and not meeting.pays(rival):
                return None
            self._planted = {**self._planted, len(sifted): planted}
        return meeting


def _plant(asked: Asked, sifted: Centres) -> Planted | None:
    """Plant a tree over images, unless a look says that these tell too little."""
    points, workers, k = sifted.points, asked.workers, asked.plan.k
    looked = asked.plan.own is not None
    found: Leading | None = workers.once(lambda: leading(points, MOST_DIRECTIONS if looked else _FEW))
    gap, rough = 0.0, found
    if looked:
        assert rough is not None
        found, gap = workers.once(lambda: look(asked.x, points, rough, k))
    if found is None:
        asked.report.look = f"more than {MOST_DIRECTIONS} directions tell rows apart"
        return None
    images, off = found.of_all(points, workers)
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

    def turns(self) -> Iterator[Tensor | None]:
        """Yield all rows, neighbours one after the other."""
        yield self._order
