"""How many members rows may have, by a look at a few rows and centres; only time depends on it."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.radius.decision import decide
from janelia_core.ml._knn.radius.threshold import threshold

_ROWS, _COORDINATES, _SHARE = 32, 1 << 19, 1 << 10  # looked at, at most; and a part in so many of all
_AT_ONCE = 1 << 14  # pairs, on a CPU: torch shares out no operation on so few, whose threads would wait for each other


def expected_members(x: Points, ctrs: Points, r: Tensor, metric: Metric) -> float:
    """Return about how many of the centres are within the radii r (n,) of a row of x, in the mean."""
    n_rows = min(len(x), _ROWS)
    coordinates = min(_COORDINATES, len(x) * len(ctrs) * x.d // _SHARE)
    n_ctrs = max(1, min(len(ctrs), coordinates // n_rows // max(1, x.d)))
    rows = torch.linspace(0, len(x) - 1, n_rows, device=r.device).long()
    centres = torch.linspace(0, len(ctrs) - 1, n_ctrs, dtype=torch.float64, device=ctrs.device).long()
    numbers = x.row_numbers(rows.to(x.device))
    values, t = x.take(numbers), threshold(metric, r[numbers.to(r.device)])
    t, n_members = type(t)(*(part[:, None] for part in t)), 0.0
    step = max(1, _AT_ONCE // max(n_rows, x.d)) if centres.device.type == "cpu" else n_ctrs
    for some in torch.split(centres, step):
        value, error = metric.block(values, ctrs.take(ctrs.row_numbers(some)), x.chunk)
        n_members += float(decide(value, error, t)[0].sum())
    return n_members / n_rows / n_ctrs * len(ctrs)
