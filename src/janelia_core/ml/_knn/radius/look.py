"""How many members rows may have, by a look at a few rows and centres; only time depends on it."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.radius.decision import decide
from janelia_core.ml._knn.radius.threshold import threshold

_ROWS, _COORDINATES, _SHARE = 32, 1 << 19, 1 << 10  # looked at, at most; and a part in so many of all


def expected_members(x: Points, ctrs: Points, r: Tensor, metric: Metric) -> float:
    """Return about how many of the centres are within the radii r (n,) of a row of x, in the mean."""
    n_rows = min(len(x), _ROWS)
    coordinates = min(_COORDINATES, len(x) * len(ctrs) * x.d // _SHARE)
    n_ctrs = max(1, min(len(ctrs), coordinates // n_rows // max(1, x.d)))
    rows = torch.linspace(0, len(x) - 1, n_rows, device=r.device).long()
    centres = torch.linspace(0, len(ctrs) - 1, n_ctrs, dtype=torch.float64, device=ctrs.device).long()
    numbers = x.row_numbers(rows.to(x.device))
    value, error = metric.block(x.take(numbers), ctrs.take(ctrs.row_numbers(centres)), x.chunk)
    t = threshold(metric, r[numbers.to(r.device)])
    belongs, _ = decide(value, error, type(t)(*(part[:, None] for part in t)))
    return float(belongs.sum()) / n_rows / n_ctrs * len(ctrs)
