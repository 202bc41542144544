"""`.hdf5`: datasets of shape (n, d), as ann-benchmarks names them: train, test, neighbors, distances.

Needs h5py, of the extra `files`. Source: https://github.com/erikbern/ann-benchmarks, "Data sets".
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from torch import Tensor

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import OPENING, Arrays, Format, VectorFile, blocks, numpy_dtype
from janelia_core.files.formats.hdf5_names import find_dataset, is_matrix
from janelia_core.files.formats.hdf5_source import Source
from janelia_core.files.formats.raw import torch_dtype
from janelia_core.files.inputs.metric_names import metric_of

FIELD_NAMES = {"indices": "neighbors"}
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
_ENTRY = 8  # bytes that the index of a filtered dataset takes at least for a chunk


class Hdf5Vectors(VectorFile):
    """One dataset, read by h5py into the block's own memory."""

    def __init__(self, path: Path, file: Any, dataset: Any, source: Source) -> None:
        self._dataset, self._source = dataset, source
        n, d = dataset.shape
        if d < 1:
            raise VectorFileError(path, f"{dataset.name}: its rows have {d} columns")
        super().__init__(path, n, d, torch_dtype(path, dataset.dtype))
        self._unseen = _chunks(path, dataset, source.most // 2)
        # h5py crashes when the process ends while a file is open that it reads through an object.
        self._end = weakref.finalize(self, _close, file, source)

    def _fill(self, start: int, out: Tensor) -> None:
        if len(out) == 0:
            return
        self._source.allow(out.nbytes)
        try:
            stored = self._dataset.id.get_num_chunks() if self._unseen else 0
            self._dataset.read_direct(out.numpy(), source_sel=slice(start, start + len(out)))
        except Exception as error:  # h5py raises OSError, RuntimeError and others for broken chunks
            raise VectorFileError(self.path, f"rows from {start} on: {error}") from error
        if stored < self._unseen:
            raise VectorFileError(
                self.path,
                f"{self._dataset.name}: only {stored} of its {self._unseen} chunks were ever written",
            )
        self._unseen = 0

    def close(self) -> None:
        """Let go of the file."""
        self._end()


def _close(file: Any, source: Source) -> None:
    file.close()
    source.close()


def _chunks(path: Path, dataset: Any, most: int) -> int:
    """Return how many chunks a dataset should have; one of which the file cannot hold all numbers is refused.

    A dataset in chunks takes no room where it was never written, and n and d promise nothing about the file: what
    comes back for such rows are fill values, which nobody has stored.
    """
    n, d = dataset.shape
    itemsize = dataset.id.get_type().get_size()
    missing = VectorFileError(path, f"{dataset.name}: has shape {n} x {d}, but the file does not hold as much")
    if dataset.chunks is None:
        if dataset.id.get_storage_size() != n * d * itemsize:
            raise missing
        return 0
    rows, columns = dataset.chunks
    size = rows * columns * itemsize
    if size > most:
        raise VectorFileError(
            path,
            f"{dataset.name}: its chunks {dataset.chunks} take {size} bytes each, {most} are at hand; give them fewer "
            f"rows: h5repack -l {dataset.name[1:]}:CHUNK={max(1, (1 << 20) // (columns * itemsize))}x{columns} OLD NEW",
        )
    filters = _filters(path, dataset)
    count: int = -(-n // rows) * -(-d // columns)
    if count * (_ENTRY if filters else size) > path.stat().st_size:
        raise missing
    return count


def _filters(path: Path, dataset: Any) -> list[int]:
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(at)[0] for at in range(plist.get_nfilters())]
    for code in filters:
        if code not in _FILTERS:  # HDF5 would look for a library to load
            known = ", ".join(_FILTERS.values())
            raise VectorFileError(
                path, f"{dataset.name}: is packed with filter {code}, and no code is loaded for a file; known: {known}"
            )
    return filters


def open_hdf5(path: Path, name: str | None, preferred: tuple[str, ...], memory: int = OPENING) -> VectorFile:
    """Open one dataset of shape (n, d)."""
    h5py = import_extra("h5py", "files")
    source = Source(path, memory)
    file = None
    try:
        file = h5py.File(source, "r")
        found = _opened(h5py, path, file, source, name, preferred)
        source.opened()
        return found
    except Exception as error:  # OSError for most damage, RuntimeError and others for some
        if file is not None:
            file.close()
        source.close()
        if isinstance(error, VectorFileError):
            raise
        raise VectorFileError(path, f"is no sound HDF5 file: {error}") from error


def _opened(
    h5py: Any, path: Path, file: Any, source: Source, name: str | None, preferred: tuple[str, ...]
) -> Hdf5Vectors:
    name, dataset = find_dataset(path, file, name, preferred)
    plist = dataset.get_create_plist()
    # Both before anything else is asked: the shape of a virtual dataset may be looked up in other files.
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        raise VectorFileError(path, f"{name} is a virtual dataset, whose numbers lie in other files; open these")
    if plist.get_external_count() > 0:
        raise VectorFileError(path, f"{name} keeps its numbers in another file, which is not read for it")
    if not is_matrix(h5py, dataset):
        raise VectorFileError(path, f"{name} has shape {dataset.shape}, not (n, d)")
    if dataset.get_type().get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT):
        raise VectorFileError(path, f"{name} holds {h5py.Dataset(dataset).dtype}, not real numbers")
    found = Hdf5Vectors(path, file, h5py.Dataset(dataset), source)
    found.metric = _metric(h5py, file)
    return found


def _metric(h5py: Any, file: Any) -> str | None:
    """Return what ann-benchmarks' attribute "distance" says, None if it is not there or no metric of ours."""
    if "distance" not in file.attrs:
        return None
    stored = file.attrs.get_id("distance")
    if stored.shape != () or h5py.check_string_dtype(stored.dtype) is None or stored.dtype.itemsize > 64:
        return None
    said = file.attrs["distance"]
    try:
        return metric_of(said.decode() if isinstance(said, bytes) else str(said))
    except ValueError:
        return None


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


HDF5 = Format(open_hdf5, write_hdf5, several=True, writer="h5py", options=("memory",))
