"""What an index may keep, and what it keeps, in words."""

from __future__ import annotations

from torch import Tensor

from janelia_core.ml._knn.among import Part
from janelia_core.ml._knn.metrics.registry import METRICS, metric_named
from janelia_core.ml._knn.problem import MEBIBYTE


def default_keep(ctrs: Tensor) -> int:
    """Return how many bytes an index of centres (n, d) may keep where nobody says."""
    n, d = ctrs.shape
    return n * max(6 * d, 5 * d + 32, 80)


def checked_keep(max_memory: object) -> int:
    """Return max_memory as an int if it is a number of bytes, 0 or more."""
    if isinstance(max_memory, bool) or not isinstance(max_memory, int):
        raise TypeError(
            f"max_memory must be an int, a number of bytes, or None, got {type(max_memory).__name__}: {max_memory!r}"
        )
    if max_memory < 0:
        raise ValueError(f"max_memory must be at least 0 bytes, which keeps nothing, got {max_memory}")
    return max_memory


def in_words(parts: tuple[Part, ...]) -> str:
    """Say what is kept, for what, and how many bytes it takes."""
    held, most = (sum(sizes) for sizes in zip(*((p.kept.nbytes, p.kept.max_memory) for p in parts), strict=True))
    standing = {_named(*of) for part in parts for of in part.kept.standing()}
    mapped = [(metric, kept) for part in parts for metric, kept in part.kept.mapped.items()]
    standing |= {f"{screen} ({metric})" for metric, kept in mapped for screen, _ in kept.standing()}
    what = ", ".join(sorted(standing)) if standing else "nothing yet, the rows so far have not paid for more"
    pieces = f" in {len(parts)} parts" if len(parts) > 1 else ""
    return f"keeps {what}: {held / MEBIBYTE:.1f} of at most {most / MEBIBYTE:.1f} MiB{pieces}"


def _named(screen: str, form: int) -> str:
    metrics = "/".join(name for name in METRICS if metric_named(name).form == form)
    return f"{screen} ({metrics})"
