"""`.hdf5`: datasets of shape (n, d), as ann-benchmarks names them: train, test, neighbors, distances.

Needs h5py, of the extra `files`. Source: https://github.com/erikbern/ann-benchmarks, "Data sets".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Arrays, Format, VectorFile, blocks, numpy_dtype
from janelia_core.files.formats.named import choose
from janelia_core.files.formats.raw import torch_dtype

FIELD_NAMES = {"indices": "neighbors"}


class Hdf5Vectors(VectorFile):
    """One dataset, read by h5py into the block's own memory."""

    def __init__(self, path: Path, file: Any, dataset: Any) -> None:
        self._file, self._dataset = file, dataset
        n, d = dataset.shape
        if d < 1:
            raise VectorFileError(path, f"{dataset.name}: its rows have {d} columns")
        super().__init__(path, n, d, torch_dtype(path, dataset.dtype))
        # A chunked dataset takes no room where it was never written: n and d promise nothing about the file.
        if dataset.chunks is None and dataset.id.get_storage_size() != n * self.row_bytes:
            raise VectorFileError(path, f"{dataset.name}: has shape {n} x {d}, but the file does not hold as much")
        if dataset.chunks is not None and _chunk_bytes(dataset) > _MOST_CHUNK:
            raise VectorFileError(path, f"{dataset.name}: its chunks {dataset.chunks} exceed {_MOST_CHUNK} bytes each")

    def _fill(self, start: int, out: Tensor) -> None:
        if len(out) == 0:
            return
        try:
            self._dataset.read_direct(out.numpy(), source_sel=slice(start, start + len(out)))
        except Exception as error:  # h5py raises OSError, RuntimeError and others for broken chunks
            raise VectorFileError(self.path, f"rows from {start} on: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


_MOST_CHUNK = 1 << 26


def _chunk_bytes(dataset: Any) -> int:
    size = int(dataset.dtype.itemsize)
    for extent in dataset.chunks:
        size *= extent
    return size


def open_hdf5(path: Path, name: str | None, preferred: tuple[str, ...]) -> VectorFile:
    """Open one dataset of shape (n, d)."""
    h5py = import_extra("h5py", "files")
    try:
        file = h5py.File(path, "r")
    except Exception as error:  # OSError for most damage, RuntimeError and others for some
        raise VectorFileError(path, f"is no sound HDF5 file: {error}") from error
    try:
        names: list[str] = []
        file.visititems(lambda key, item: names.append(key) if _is_matrix(h5py, item) else None)
        return Hdf5Vectors(path, file, file[choose(path, names, name, preferred)])
    except VectorFileError:
        file.close()
        raise
    except Exception as error:
        file.close()
        raise VectorFileError(path, f"is no sound HDF5 file: {error}") from error


def _is_matrix(h5py: Any, item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.shape is not None and len(item.shape) == 2


def write_hdf5(path: Path, arrays: Arrays) -> None:
    """Write every array under ann-benchmarks' name for it."""
    h5py = import_extra("h5py", "files")
    with h5py.File(path, "w", libver="earliest") as file:
        for name, rows in arrays.items():
            dtype = numpy_dtype(rows)
            dataset = file.create_dataset(FIELD_NAMES.get(name, name), (rows.n, rows.d), dtype, track_times=False)
            at = 0
            for block in blocks(rows):
                dataset[at : at + len(block)] = block
                at += len(block)


HDF5 = Format(open_hdf5, write_hdf5, several=True, writer="h5py")
