"""FAISS's flat search under its own names, exact: `from janelia_core.compat import faiss`.

As in FAISS, vectors are taken as float32, `METRIC_L2` gives squared distances, inner products come largest first, and
where there are fewer than k neighbours labels are -1 and distances the largest float32, for products the least. What is
not nearer than that, as NaN is not, is no neighbour.

On purpose different: distances are the true ones, rounded once; ties go to what was added first, whatever the metric or
the batch. A range holds what is strictly nearer (products: larger) than the float32 radius after that one rounding, in
the order of adding; a radius that is NaN is an error, as are wrong shapes (ValueError). `IndexIDMap` takes metric and
columns of an index that stays empty, and reconstructs as `IndexIDMap2` does. Files are NumPy archives.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from janelia_core.durable import replaced
from janelia_core.ml.index import CenterIndex
from janelia_core.ml.neighbors import Neighbors
from janelia_core.ml.neighbors import knn as nearest

Array = NDArray[Any]

METRIC_INNER_PRODUCT, METRIC_L2, METRIC_L1, METRIC_Linf = range(4)
_METRICS = ("dot", "sqeuclidean", "manhattan", "chebyshev")
_LARGEST = np.finfo(np.float32).max


def knn(xq: ArrayLike, xb: ArrayLike, k: int, metric: int = METRIC_L2, metric_arg: float = 0.0) -> tuple[Array, Array]:
    """Return distances (nq, k) float32 and labels (nq, k) int64 of the k nearest rows of xb to each row of xq."""
    return _found(nearest(_rows(xq), _rows(xb), k, metric=_name(metric)), metric)


class IndexFlat:
    """Vectors of d columns, labelled 0, 1, 2, ...: those behind a removed one move up."""

    def __init__(self, d: int, metric: int = METRIC_L2) -> None:
        self.d, self.metric_type, self.is_trained = d, metric, True
        self.reset()

    @property
    def ntotal(self) -> int:
        """How many vectors there are."""
        return len(self._kept)

    def reset(self) -> None:
        """Remove all vectors."""
        self._kept = CenterIndex(torch.empty(0, self.d), metric=_name(self.metric_type))

    def train(self, x: ArrayLike) -> None:
        """Do nothing: there is nothing to learn."""

    def add(self, x: ArrayLike) -> None:
        """Append copies of the rows of x (n, d)."""
        self._kept = self._kept.with_rows(_rows(x))

    def search(self, x: ArrayLike, k: int) -> tuple[Array, Array]:
        """Return distances (n, k) float32 and labels (n, k) int64 of the k nearest vectors to each row of x (n, d)."""
        distances, numbers = _found(self._kept.knn(_rows(x), k), self.metric_type)
        return distances, self._labels(numbers)

    def range_search(self, x: ArrayLike, thresh: float) -> tuple[Array, Array, Array]:
        """Return lims (n + 1,), distances and labels: those from lims[i] to lims[i + 1] are within row i's radius."""
        bound, sign = float(np.float32(thresh)), -1 if self.metric_type == METRIC_INNER_PRODUCT else 1
        found = self._kept.radius(_rows(x), -bound if sign < 0 else max(bound, 0.0), sort_by="index")
        distances = found.distances.numpy()
        inside = distances < sign * bound
        lims = np.append(0, inside.cumsum())[found.offsets.numpy()]
        return lims.astype(np.uint64), sign * distances[inside], self._labels(found.indices.numpy()[inside])

    def remove_ids(self, x: ArrayLike) -> int:
        """Remove the vectors with these labels, and return how many they were."""
        gone = self._kept.numbers[torch.from_numpy(np.isin(np.arange(self.ntotal), x))]
        self._kept = self._kept.without(gone)
        if 2 * self.ntotal < len(self._kept.ctrs):  # those removed are stored still
            self._kept = CenterIndex(self._kept.ctrs[self._kept.numbers], metric=self._kept.metric)
        return len(gone)

    def reconstruct(self, key: int) -> Array:
        """Return the vector (d,) with a label."""
        return np.asarray(self.reconstruct_n(key, 1)[0])

    def reconstruct_n(self, n0: int = 0, ni: int = -1) -> Array:
        """Return vectors (ni, d) in the order of adding, from the n0-th; -1: to the last."""
        end = self.ntotal if ni == -1 else n0 + ni
        if not 0 <= n0 <= end <= self.ntotal:
            raise RuntimeError(f"there are {self.ntotal} vectors, got a wish for those from {n0} to {end - 1}")
        return np.asarray(self._kept.ctrs[self._kept.numbers[n0:end]])

    def _labels(self, numbers: Array) -> Array:
        """Return the labels of vectors by the numbers that they are kept by, -1 for none."""
        if self.ntotal == len(self._kept.ctrs):
            return numbers
        return np.where(numbers < 0, -1, np.searchsorted(self._kept.numbers.numpy(), numbers))


class IndexFlatL2(IndexFlat):
    """An `IndexFlat` of squared distances."""


class IndexFlatIP(IndexFlat):
    """An `IndexFlat` of inner products."""

    def __init__(self, d: int) -> None:
        super().__init__(d, METRIC_INNER_PRODUCT)


class IndexIDMap(IndexFlat):
    """An `IndexFlat` whose vectors have labels of the caller's, `id_map`, the same ones several times if need be."""

    def __init__(self, index: IndexFlat) -> None:
        if index.ntotal:
            raise RuntimeError(f"the index must be empty, and has {index.ntotal} vectors")
        super().__init__(index.d, index.metric_type)

    def reset(self) -> None:
        """Remove all vectors."""
        super().reset()
        self.id_map = np.empty(0, np.int64)

    def add(self, x: ArrayLike) -> None:
        """Append vectors, which is not possible without labels."""
        raise RuntimeError("vectors need labels here: write add_with_ids(x, ids)")

    def add_with_ids(self, x: ArrayLike, ids: ArrayLike) -> None:
        """Append copies of the rows of x (n, d) with labels ids (n,)."""
        if np.shape(ids) != np.shape(x)[:1]:
            raise ValueError(f"ids must be one label for each row of x {np.shape(x)}, got {np.shape(ids)}")
        labels = np.asarray(ids).astype(np.int64)  # whatever is wrong with them, nothing was added yet
        super().add(x)
        self.id_map = np.append(self.id_map, labels)

    def remove_ids(self, x: ArrayLike) -> int:
        """Remove the vectors with these labels, and return how many they were."""
        gone = np.isin(self.id_map, x)
        self.id_map = self.id_map[~gone]
        return super().remove_ids(np.flatnonzero(gone))

    def reconstruct(self, key: int) -> Array:
        """Return the vector (d,) with a label, the last one that was added with it."""
        rows = np.flatnonzero(self.id_map == key)
        return super().reconstruct(int(rows[-1]) if len(rows) else self.ntotal)

    def _labels(self, numbers: Array) -> Array:
        return np.append(self.id_map, -1)[super()._labels(numbers)]


IndexIDMap2 = IndexIDMap


def write_index(index: IndexFlat, fname: str | os.PathLike[str]) -> None:
    """Write an index to a file that appears when it is whole."""
    beside = Path(f"{os.fspath(fname)}.unfinished")
    ids: dict[str, Any] = {"ids": index.id_map} if isinstance(index, IndexIDMap) else {}
    with replaced(Path(fname), beside), beside.open("wb") as file:
        # In this order a damaged archive that forgets its last parts forgets the vectors, never the labels alone.
        np.savez(file, **ids, metric=index.metric_type, vectors=index.reconstruct_n())


def read_index(fname: str | os.PathLike[str]) -> IndexFlat:
    """Return the index that `write_index` wrote; a RuntimeError, as in FAISS, if the file holds none."""
    with Path(fname).open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as stored:
                vectors, index = stored["vectors"], IndexFlat(stored["vectors"].shape[1], int(stored["metric"]))
                if len(stored.files) > 2:
                    index = IndexIDMap(index)
                    index.add_with_ids(vectors, stored["ids"])
                else:
                    index.add(vectors)
        except (ValueError, TypeError, LookupError, EOFError, OSError, RuntimeError, BadZipFile) as error:
            told = "is damaged, or was not written by write_index of this module, which FAISS's own files are not"
            raise RuntimeError(f"{os.fspath(fname)!r} {told}") from error
    return index


def _name(metric: int) -> str:
    """Return what is called a metric of FAISS's number here."""
    if metric not in range(len(_METRICS)):
        raise ValueError(f"metric must be 0 (inner product), 1 (L2), 2 (L1) or 3 (Linf), got {metric!r}")
    return _METRICS[int(metric)]


def _rows(x: ArrayLike) -> Tensor:
    """Return the rows of x (n, d) in float32."""
    return torch.from_numpy(np.array(x, np.float32, order="C"))


def _found(found: Neighbors, metric: int) -> tuple[Array, Array]:
    """Return distances and labels as FAISS does: what isn't nearer than the largest float32 is none."""
    distances, labels = found.distances.numpy(), found.indices.numpy()
    none = ~(distances < _LARGEST)
    distances[none], labels[none] = _LARGEST, -1
    return (-distances if metric == METRIC_INNER_PRODUCT else distances), labels
