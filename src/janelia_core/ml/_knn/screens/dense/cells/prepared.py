"""Cells of centres, made when a look at the rows says that they pay; and the meeting of both."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.problem import FEWEST_CTRS
from janelia_core.ml._knn.screens.contract import Asked, Lister, Meeting
from janelia_core.ml._knn.screens.dense.cells import cost, look
from janelia_core.ml._knn.screens.dense.cells.centres import CellCentres
from janelia_core.ml._knn.screens.dense.cells.grouping import Grouping, group
from janelia_core.ml._knn.screens.dense.cells.screen import CellScreen
from janelia_core.ml._knn.screens.dense.cost import Panels, formats
from janelia_core.ml._knn.screens.dense.formats import FORMATS
from janelia_core.ml._knn.screens.dense.prepared import PreparedDense
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._runtime.locks import ForkSafeLock
from janelia_core.ml._runtime.workers import Workers


class PreparedCells:
    """Packed cells, for each number of centres that are left of copies; for any number of searches.

    Args:
        metric: What orders centres.

    Attributes:
        under: Packed centres for rows that cells leave in doubt.
    """

    def __init__(self, metric: str) -> None:
        self.under = PreparedDense(metric)
        self._groupings: dict[int, Grouping] = {}  # never changed, but replaced; as what follows
        self._packed: dict[tuple[int, str], CellCentres] = {}
        self._lock = ForkSafeLock()

    @property
    def stands(self) -> bool:
        """Whether later searches find cells."""
        return bool(self._packed)

    @property
    def nbytes(self) -> int:
        """What is held."""
        packed = sum(centres.nbytes for centres in self._packed.values())
        return self.under.nbytes + packed + sum(grouping.nbytes for grouping in self._groupings.values())

    def meet(self, asked: Asked) -> Meeting | None:
        """Let rows visit the cells, unless a few of them tell that they would visit too many."""
        plan, workers = asked.plan, asked.workers
        if plan.own is not None and not self.stands and not self._looks_clustered(asked):
            return None
        finite = asked.centres.finite(Reader(workers, plan.kernels))
        sifted = finite.without_copies(plan.k, plan.workspace_bytes // 2, workers)
        points, n = sifted.points, len(sifted)
        with self._lock:
            grouping = self._groupings.get(n) or group(points, workers)
            if plan.own is not None and not self._pays(asked, points, grouping):
                return None
            self._groupings = {**self._groupings, n: grouping}
        return CellMeeting(asked, self, grouping, sifted)

    def packed(self, sifted: Centres, grouping: Grouping, name: str, workers: Workers) -> CellCentres:
        """Return cells in a format."""
        points, key = sifted.points, (len(sifted), name)
        with self._lock:
            if key not in self._packed:
                largest = sifted.seen(Reader(workers)).largest
                packed = CellCentres(points, grouping, FORMATS[name], workers, largest)
                self._packed = {**self._packed, key: packed}
            return self._packed[key]

    def _looks_clustered(self, asked: Asked) -> bool:
        alike: float = asked.told("cells", lambda: look.alike(asked.x, asked.centres.points))
        asked.report.look = f"the nearest of a sample of centres is {alike:.2f} times as far as the usual one"
        return not look.are_too_alike(alike, asked.x.d)

    def _pays(self, asked: Asked, points: Points, grouping: Grouping) -> bool:
        problem, n_cells = asked.plan.problem, len(grouping.middles)
        needs = asked.workers.once(lambda: look.needs(asked.x, points, grouping, asked.plan.k))
        share = needs.share(len(asked.x), n_cells, points.d, cost.rows_work(problem))
        asked.report.look = f"{needs.rows} rows need {needs.tiles:.2f} of the tiles: {share:.2f} of the dense work"
        return share <= look.MOST_WORK


class CellMeeting(Meeting):
    """Rows that visit cells, in the order of these.

    Args:
        asked: The search.
        prepared: Who packs cells.
        grouping: Of the centres.
        sifted: The centres.
    """

    def __init__(self, asked: Asked, prepared: PreparedCells, grouping: Grouping, sifted: Centres) -> None:
        plan, points = asked.plan, sifted.points
        names = formats(plan.problem)
        panels: Panels = plan.own or Panels(FEWEST_CTRS, 0, names)
        packed = prepared.packed(sifted, grouping, names[0], asked.workers)

        def lister(name: str) -> Lister:
            """Return who lists in a format: among cells while memory lasts, else among all centres."""
            if name == names[0]:
                return CellScreen(packed, plan.k)
            if FORMATS[name].words_bytes(len(packed.numbers), points.d) <= panels.pack_bytes // len(names):
                return CellScreen(prepared.packed(sifted, grouping, name, Workers(1, pool=False)), plan.k)
            return prepared.under.lister(name, sifted, panels, plan.k)

        super().__init__(Rungs(lister, names), compiled=True)
        self._x, self._grouping, self._workers = asked.x, grouping, asked.workers

    def turns(self) -> Iterator[Tensor | None]:
        """Yield all rows, neighbours one after the other."""
        yield self._grouping.order_of(self._x, self._workers)
