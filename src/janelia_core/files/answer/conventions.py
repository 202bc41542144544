"""Distances as other tools tell them: which ones a file of neighbours holds beside the row numbers.

| convention       | Euclidean | cosine          | inner product | others         |
|------------------|-----------|-----------------|---------------|----------------|
| `ours`           | as the metric says: squares for sqeuclidean, 1 - cosine, minus the product  |
| `ann-benchmarks` | distance  | 1 - cosine      | none          | none           |
| `faiss`          | squared   | cosine          | positive      | L1, L-infinity |
| `big-ann`        | squared   | cosine          | positive      | none           |
| `diskann`        | squared   | 2 (1 - cosine)  | positive      | none           |

Squared distances are those of the metric sqeuclidean, rounded once, no squares of rounded ones. Changing a sign and
doubling round nothing. A cosine is 1 minus the rounded distance: within 2^-24 of the truth in float32, within 2^-53 in
float64.

Sources: the metrics of https://github.com/erikbern/ann-benchmarks; MetricType-and-distances of the wiki of
https://github.com/facebookresearch/faiss, in which cosines are inner products of directions; make_groundtruth of
https://github.com/harsha-simhadri/big-ann-benchmarks; compute_groundtruth of https://github.com/microsoft/DiskANN,
whose cosine is the squared distance of directions.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

OURS = "ours"


class Told(NamedTuple):
    """Which distances are told.

    Attributes:
        metric: By which they are computed; it has the neighbours of the metric that is asked for, in the same order.
        change: What becomes of them: "", "negated", "doubled", or "from 1", which makes cosines.
    """

    metric: str
    change: str = ""

    def of(self, distances: Tensor) -> Tensor:
        """Return distances by `metric` as they are told."""
        match self.change:
            case "negated":
                return 0 - distances  # which has no -0
            case "doubled":
                return 2 * distances
            case "from 1":
                return 1 - distances
        return distances


_SQUARED = Told("sqeuclidean")
_COMMON = {"euclidean": _SQUARED, "sqeuclidean": _SQUARED, "dot": Told("dot", "negated")}
_COSINE = {"cosine": Told("cosine", "from 1")}
_ROOT = Told("euclidean")

CONVENTIONS: dict[str, dict[str, Told]] = {
    OURS: {},
    "ann-benchmarks": {"euclidean": _ROOT, "sqeuclidean": _ROOT, "cosine": Told("cosine")},
    "faiss": _COMMON | _COSINE | {"manhattan": Told("manhattan"), "chebyshev": Told("chebyshev")},
    "big-ann": _COMMON | _COSINE,
    "diskann": _COMMON | {"cosine": Told("cosine", "doubled")},
}


def checked_convention(name: str | None) -> str:
    """Return the name of a convention, by default ours.

    Raises:
        ValueError: There is none of that name.
    """
    found = (name or OURS).lower()
    if found not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {name!r}")
    return found


def told_by(convention: str | None, metric: str) -> Told:
    """Return which distances a convention tells for a metric.

    Raises:
        ValueError: It has none for that metric.
    """
    name = checked_convention(convention)
    if name == OURS:
        return Told(metric)
    known = CONVENTIONS[name]
    if metric not in known:
        raise ValueError(f"convention {name} has no distance for the metric {metric}; it has: {', '.join(known)}")
    return known[metric]
