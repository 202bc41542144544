"""Both meshes, made when a look at the rows says that they pay; and the meeting of rows and centres."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.leading import leading, refined
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.problem import FEWEST_CTRS
from janelia_core.ml._knn.screens.contract import Asked, Lister, Meeting
from janelia_core.ml._knn.screens.dense.cost import Panels, formats
from janelia_core.ml._knn.screens.dense.formats import INT8
from janelia_core.ml._knn.screens.dense.frame import Known
from janelia_core.ml._knn.screens.dense.prepared import PreparedDense
from janelia_core.ml._knn.screens.dense.sieve import cost, look
from janelia_core.ml._knn.screens.dense.sieve.images import Images
from janelia_core.ml._knn.screens.dense.sieve.order import order_of
from janelia_core.ml._knn.screens.dense.sieve.packed import PackedPoints
from janelia_core.ml._knn.screens.dense.sieve.screen import Meshes, SieveScreen
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._runtime.locks import ForkSafeLock
from janelia_core.ml._runtime.workers import Workers


class PreparedSieve:
    """Meshes, for each number of centres that are left of copies; for any number of searches.

    Args:
        metric: What orders centres.

    Attributes:
        under: Packed centres for rows that bytes leave in doubt.
    """

    def __init__(self, metric: str) -> None:
        self.under = PreparedDense(metric)
        self._meshes: dict[int, Meshes] = {}  # never changed, but replaced
        self._lock = ForkSafeLock()

    @property
    def stands(self) -> bool:
        """Whether later searches find meshes."""
        return bool(self._meshes)

    @property
    def nbytes(self) -> int:
        """What is held."""
        return self.under.nbytes + sum(meshes.nbytes for meshes in self._meshes.values())

    def meet(self, asked: Asked) -> Meeting | None:
        """Bring the rows; None where too many centres would pass the first mesh."""
        plan, workers = asked.plan, asked.workers
        finite = asked.centres.finite(Reader(workers, plan.kernels))
        with self._lock:
            first = next(iter(self._meshes.values()), None)
            seen = cost.is_rehearsal(plan.problem) or first is not None
            if not seen and look.tells_too_little(asked.told("sieve", lambda: look.outside(finite.points))):
                asked.report.look = "many directions lead"
                return None
            images = self._rough(finite.points, workers) if first is None else first.images
            if not cost.is_rehearsal(plan.problem) and not self._pays(asked, finite.points, images):
                return None
            sifted = finite.without_copies(plan.k, plan.workspace_bytes // 2, workers)
            if first is None:
                images = Images(refined(images.leading, finite.points, cost.REFINED, workers))
            meshes = self._meshes.get(len(sifted)) or meshes_of(sifted, images, workers)
            self._meshes = {**self._meshes, len(sifted): meshes}
        return SieveMeeting(asked, self, meshes, sifted)

    @staticmethod
    def _rough(ctrs: Points, workers: Workers) -> Images:
        images: Images = workers.once(lambda: Images(leading(ctrs, cost.DIRECTIONS)))
        return images

    def _pays(self, asked: Asked, ctrs: Points, images: Images) -> bool:
        problem, rest = asked.plan.problem, float(images.leading.share[-1])
        asked.report.look = f"{rest:.2f} of a sample lies outside {cost.DIRECTIONS} leading directions"
        if rest > look.MOST_REST:
            return False
        passing = asked.workers.once(lambda: look.passing(asked.x, ctrs, images, asked.plan.k))
        share = cost.work(problem, passing, self.stands) / cost.rival_work(problem)
        asked.report.look += f", {passing:.3f} of the centres look near there: {share:.2f} of the dense work"
        return share <= cost.MOST_WORK


def meshes_of(sifted: Centres, images: Images, workers: Workers) -> Meshes:
    """Make the meshes of centres."""
    values, off = images.of_all(sifted.points, workers)
    order = order_of(values, workers)
    fine = PackedPoints(Points(values, chunk=sifted.points.chunk), order.order, True, workers)
    whole = PackedPoints(sifted.points, order.order, False, workers, Known(sifted.columns, sifted.largest))
    return Meshes(images, order, fine, whole, float(off.amax()), sifted.points)


class SieveMeeting(Meeting):
    """Rows in the order of the centres that are near them.

    Args:
        asked: The search.
        prepared: Who packs centres for rows in doubt.
        meshes: Of the centres.
        sifted: The centres.
    """

    def __init__(self, asked: Asked, prepared: PreparedSieve, meshes: Meshes, sifted: Centres) -> None:
        plan, names = asked.plan, (INT8.name, *formats(asked.plan.problem)[1:])
        panels: Panels = plan.own or Panels(FEWEST_CTRS, 0, names)
        known = meshes.images.of_all(asked.x, asked.workers)
        self._order = meshes.order.sorted(known[0], asked.workers)
        screen = SieveScreen(meshes, plan.k, known if asked.x.subset is None else None)

        def lister(name: str) -> Lister:
            return screen if name == INT8.name else prepared.under.lister(name, sifted, panels, plan.k)

        super().__init__(Rungs(lister, names), compiled=True)

    def turns(self) -> Iterator[Tensor | None]:
        """Yield all rows, neighbours one after the other."""
        yield self._order
