"""Whether the distances stored with an answer are those of the centres that it lists.

They are compared with the true ones, rounded to the numbers that are stored. Other tools compute in float32 and round
many times, so that a distance may be off by some units in its last place, and one near zero by many: what is wrong
is what is off by more than a thousandth (the tolerance of ann-benchmarks) of the largest distance of its row.

Which distances they are is found out from the first rows: other tools store squared ones, or positive inner products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.files.answer.conventions import Told, told_by
from janelia_core.files.formats.contract import VectorFile
from janelia_core.ml._knn.distances.distances import distances, result_dtype

TOLERANCE = 1e-3
_BITS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


class Kind(NamedTuple):
    """Which distances may be stored.

    Attributes:
        words: What they are.
        told: How they come of a metric that has the same neighbours as the one that is asked for.
    """

    words: str
    told: Told


_KINDS = {
    "euclidean": (Kind("distances", Told("euclidean")), Kind("squared distances", Told("sqeuclidean"))),
    "sqeuclidean": (Kind("squared distances", Told("sqeuclidean")), Kind("distances, not squared", Told("euclidean"))),
    "dot": (Kind("inner products with a minus sign", Told("dot")), Kind("inner products", Told("dot", "negated"))),
    "cosine": (
        Kind("1 - cosine", Told("cosine")),
        Kind("cosines", Told("cosine", "from 1")),
        Kind("2 (1 - cosine)", Told("cosine", "doubled")),
    ),
}


def kinds_of(metric: str, convention: str | None) -> Sequence[Kind]:
    """Return which distances may be stored where a metric is asked for, its own first.

    Args:
        metric: What is searched by.
        convention: Of the tool that stored them, which is one kind alone; None: found out.

    Raises:
        ValueError: The convention has no distances for that metric.
    """
    every = _KINDS.get(metric, (Kind("distances", Told(metric)),))
    if convention is None:
        return every
    told = told_by(convention, metric)
    words = next((kind.words for kind in every if kind.told == told), "distances")
    return (Kind(f"{words} (convention {convention})", told),)


@dataclass
class DistanceCheck:
    """How right stored distances are.

    Attributes:
        words: What is stored: distances, or squared distances, ..
        n_compared: Distances of listed centres that there are.
        n_equal: Those that are the true distance, rounded to the stored dtype.
        n_near: Those beside it: within one unit in the last place.
        n_off: Those that are off by more than a thousandth of the largest true distance in their row, or not finite.
        largest: The largest difference, likewise relative, of finite ones.
    """

    words: str
    n_compared: int = 0
    n_equal: int = 0
    n_near: int = 0
    n_off: int = 0
    largest: float = 0.0

    def __str__(self) -> str:
        rest = self.n_compared - self.n_equal - self.n_near
        return (
            f"stored are {self.words}: {self.n_equal} of {self.n_compared} equal, {self.n_near} within one unit in the "
            f"last place, {rest} farther off, {self.n_off} of them by more than {TOLERANCE:g} of the largest in the "
            f"row; largest difference {self.largest:.3g}"
        )

    def add(self, stored: Tensor, true: Tensor, there: Tensor) -> None:
        """Count a block (r, k) of stored distances beside true ones, where there is a centre."""
        rounded = true.to(stored.dtype)
        equal = (stored == rounded) | (stored.isnan() & rounded.isnan())
        near = ~equal & (_apart(stored, rounded) <= 1)
        exact = true.double()
        scale = exact.abs().masked_fill(~there | ~exact.isfinite(), 0).amax(dim=1, keepdim=True)
        off = ((stored.double() - exact).abs() / scale).masked_fill(equal, 0)
        self.n_compared += int(there.sum())
        self.n_equal += int((equal & there).sum())
        self.n_near += int((near & there).sum())
        self.n_off += int((~(off <= TOLERANCE) & ~near & there).sum())
        self.largest = max(self.largest, float(off.masked_fill(~(there & off.isfinite()), 0).max()))


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """Return how many numbers of their dtype two are apart; of integers, by how much they differ."""
    if one.dtype not in _BITS:
        return (one.double() - other.double()).abs()
    places = []
    for values in (one, other):
        bits = values.contiguous().view(_BITS[values.dtype]).to(torch.int64)
        magnitude = bits & (2 ** (8 * values.itemsize - 1) - 1)
        places.append(torch.where(bits < 0, -magnitude, magnitude).masked_fill(values.isnan(), 2**62))
    return (places[0] - places[1]).abs()


def true_distances(x: Tensor, centres: VectorFile, listed: Tensor, metric: str, budget: int, wide: bool) -> Tensor:
    """Return the distances (r, k) between rows x (r, d) and the centres that are listed (r, k), inf where that is -1.

    Args:
        x: The rows.
        centres: Whose rows are fetched, by and by.
        listed: Row numbers.
        metric: Of the distances.
        budget: Bytes of rows fetched at a time, and of workspace.
        wide: In float64, also where the search's own are float32.
    """
    kept = torch.float64 if wide else result_dtype(x, centres)
    out = torch.full(listed.shape, torch.inf, dtype=kept)
    for rows, columns in _pieces(
        listed.shape, budget // 2 // (centres.d * (8 if wide else centres.dtype.itemsize) + 64)
    ):
        some = listed[rows, columns]
        there = some >= 0
        numbers, place = torch.unique(some[there], return_inverse=True)
        fetched, here = centres.take(numbers), x[rows]
        if wide:
            fetched, here = fetched.double(), here.double()
        places = torch.full(some.shape, -1).masked_scatter(there, place)
        out[rows, columns] = distances(here, fetched, places, metric, max(1 << 20, budget // 2)).to(kept)
    return out


def _pieces(shape: Sequence[int], most: int) -> Iterator[tuple[slice, slice]]:
    """Cut (r, k) into pieces of at most so many pairs."""
    n, k = shape
    columns = max(1, min(k, most))
    rows = max(1, most // columns)
    for start in range(0, n, rows):
        for first in range(0, k, columns):
            yield slice(start, start + rows), slice(first, first + columns)
