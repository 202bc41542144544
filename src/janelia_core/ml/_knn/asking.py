"""A search as screens meet it: made ready, so that values are looked at once, when a screen first asks."""

from __future__ import annotations

import functools

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Frame, join
from janelia_core.ml._knn.data.mask import Allowed, Mask
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.seen import Seen
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import Report
from janelia_core.ml._knn.screens.contract import Asked
from janelia_core.ml._runtime.workers import Workers

_FEW = 1 << 21  # coordinates that one worker has seen sooner than all of them wake twice


def ask(
    x: Points,
    centres: Centres,
    plan: Plan,
    report: Report,
    workers: Workers,
    allowed: Allowed | None,
    by_distance: bool = False,
) -> Asked:
    """Make ready for a look at rows and centres, once each, when a screen first asks what was seen.

    by_distance: Values count, not the order alone: all copies of a centre are wanted, and rows keep their lengths.
    """
    reader = Reader(workers, plan.kernels)
    mask = None if allowed is None else Mask(allowed, centres.points)
    if mask is None and not plan.sifts and not by_distance:
        centres = centres.without_copies(plan.k, plan.workspace_bytes // 2, workers)
    metric = metric_named(plan.metric)
    level = metric.levelled and x.values.is_floating_point() and not by_distance

    @functools.cache
    def look() -> Frame:
        frame = join(Seen(x, reader), centres.seen(reader), reader, metric.form == DISTANCE, level)
        return frame.of_directions() if metric.directed else frame

    few = x.device.type == "cpu" and (len(x) + len(centres)) * x.d <= _FEW
    return Asked(x, centres, look, plan, report, workers, mask, few=few)
