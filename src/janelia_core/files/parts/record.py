"""What a part of a search keeps of each row, at fixed places, so that parts can be merged without what was searched.

    exponent  int32     order values are of points times 2^-exponent
    flags     uint32    1: nothing rounded in any value; 2: float64 holds all stored values; 4: the exponent is known
    value     float64   order values
    error     float64   how far each can be off; left out where a bound tells that
    distance  float32 or float64    rounded once
    index     int32 or int64        numbers of centres, counted from the part's first; -1 in empty slots

All but the first two are lists of one width, in the exact order. Byte order is little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.files.parts.ranges import Part
from janelia_core.ml._knn.merge import Running
from janelia_core.ml._knn.metrics.registry import metric_class

EXACT, IN_FLOAT64, KNOWN = 1, 2, 4
_CHUNK = 1 << 20  # bytes packed at a time
_MOST_INT32 = 2**31


class Record(NamedTuple):
    """How a row is kept.

    Attributes:
        width: Centres in a list.
        itemsize: Bytes of a distance, 4 or 8.
        errors: Errors are kept.
        wide: Numbers take 64 bits.
    """

    width: int
    itemsize: int
    errors: bool
    wide: bool

    @classmethod
    def of(cls, metric: str, width: int, n_ctrs: int, distances: torch.dtype) -> Record:
        """Return how rows are kept of a search by a metric among so many centres."""
        return cls(width, distances.itemsize, not metric_class(metric).uniform, n_ctrs >= _MOST_INT32)

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Of a row."""
        lists = [("value", "<f8"), *([("error", "<f8")] if self.errors else [])]
        lists += [("distance", f"<f{self.itemsize}"), ("index", "<i8" if self.wide else "<i4")]
        return np.dtype([("exponent", "<i4"), ("flags", "<u4"), *((*one, (self.width,)) for one in lists)])

    @property
    def bytes(self) -> int:
        """Of a row."""
        return self.dtype.itemsize

    def packed(self, running: Running, first: int) -> Iterator[npt.NDArray[np.void]]:
        """Yield the rows of finished lists, some at a time; the part's first centre has number `first`."""
        assert running.distances is not None
        flags = EXACT * running.exact | IN_FLOAT64 * running.in_float64 | KNOWN * (running.exponent is not None)
        step = max(1, _CHUNK // self.bytes)
        for start in range(0, len(running.indices), step):
            rows = slice(start, start + step)
            indices = running.indices[rows]
            out = np.zeros(len(indices), self.dtype)
            out["exponent"], out["flags"] = running.exponent or 0, flags
            columns = {"value": running.value, "distance": running.distances}
            columns |= {"error": running.error} if self.errors else {}
            for name, values in columns.items():
                out[name] = values[rows].numpy()
            out["index"] = torch.where(indices < 0, -1, indices - first).numpy()
            yield out


class Facts(NamedTuple):
    """What holds for the values of each row.

    Attributes:
        exponent: (r,) int64.
        exact: (r,) bool.
        in_float64: (r,) bool.
    """

    exponent: Tensor
    exact: Tensor
    in_float64: Tensor


def column(rows: npt.NDArray[Any], name: str, dtype: torch.dtype) -> Tensor:
    """Return one list of each row (r, w)."""
    return torch.from_numpy(rows[name].astype(rows[name].dtype.newbyteorder("="))).to(dtype)


def facts(rows: npt.NDArray[Any]) -> Facts:
    """Return what holds for the values of rows."""
    flags = torch.from_numpy(rows["flags"].astype(np.int64))
    exponent = torch.from_numpy(rows["exponent"].astype(np.int64))
    return Facts(exponent, flags & EXACT > 0, flags & IN_FLOAT64 > 0)


class OfPart(NamedTuple):
    """What a search of a part is a part of.

    Attributes:
        part: Which.
        ctr_rows: First and number of the centres of all parts.
        k: How many neighbours are asked for.
        but_self: The queries are centres, none its own neighbour, so that one more is listed.
        metric: The one asked for.
        convention: Likewise, or None.
        record: How rows are kept.
    """

    part: Part
    ctr_rows: tuple[int, int]
    k: int
    but_self: bool
    metric: str
    convention: str | None
    record: Record
