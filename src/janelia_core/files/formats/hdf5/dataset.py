"""`.hdf5`: datasets of shape (n, d), as ann-benchmarks names them: train, test, neighbors, distances.

Needs h5py, of the extra `files`. Source: https://github.com/erikbern/ann-benchmarks, "Data sets".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import OPENING, Arrays, Format, VectorFile, blocks, numpy_dtype
from janelia_core.files.formats.hdf5.names import find_dataset, is_matrix
from janelia_core.files.formats.hdf5.source import Source
from janelia_core.files.formats.raw import RawVectors, torch_dtype
from janelia_core.files.formats.tiles import Numbers, by_tiles
from janelia_core.files.inputs.metric_names import metric_of

FIELD_NAMES = {"indices": "neighbors"}
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
_KINDS = {
    "ENUM": "names of numbers (as booleans are stored)",
    "COMPOUND": "records",
    "STRING": "text",
    "REFERENCE": "references",
    "VLEN": "lists of any length",
    "ARRAY": "arrays",
    "OPAQUE": "bytes of no meaning",
    "BITFIELD": "bits",
    "TIME": "times",
}
_ENTRY = 8  # bytes that the index of a filtered dataset takes at least for a chunk


def _rows(h5py: Any, path: Path, dataset: Any, source: Source, memory: int) -> RawVectors:
    """Return the rows of a dataset where they stand, or decoded to disk where they are packed, or in chunks."""
    n, d = dataset.shape
    if d < 1:
        raise VectorFileError(path, f"{dataset.name}: its rows have {d} columns")
    torch_dtype(path, dataset.dtype)
    count = _chunks(path, dataset, memory // 4)
    at = dataset.id.get_offset()
    if at is not None and dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype)):
        return RawVectors(path, at, n, d, dataset.dtype)
    source.opened()
    if (stored := dataset.id.get_num_chunks() if count else 0) < count:
        raise VectorFileError(path, f"{dataset.name}: only {stored} of its {count} chunks were ever written")
    dtype = dataset.dtype.newbyteorder("=")

    def read(start: int, stop: int, first: int, last: int) -> Numbers:
        values = np.empty((stop - start, last - first), dtype)
        try:
            dataset.read_direct(values, np.s_[start:stop, first:last])
        except Exception as error:  # h5py raises OSError, RuntimeError and others for broken chunks
            raise VectorFileError(path, f"rows from {start} on: {error}") from error
        return values

    return by_tiles(path, (n, d), dtype, _tile(dataset, memory // 4), read, memory // 2)


def _tile(dataset: Any, most: int) -> tuple[int, int]:
    """Return how many rows and columns are read at a time: whole chunks, so that each is decoded once."""
    d, size = dataset.shape[1], dataset.dtype.itemsize
    rows, columns = dataset.chunks or (1, 1)
    if rows * d * size <= most:
        return most // (rows * d * size) * rows, d
    return rows, max(1, most // (rows * columns * size)) * columns


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


def open_hdf5(path: Path, name: str | None, preferred: tuple[str, ...], opening: int = OPENING) -> VectorFile:
    """Open one dataset of shape (n, d)."""
    h5py = import_extra("h5py", "files")
    source = Source(path, opening)
    file = None
    try:
        file = h5py.File(source, "r", rdcc_nbytes=0)  # chunks are decoded once: no cache of them
        return _opened(h5py, path, file, source, name, preferred, opening)
    except VectorFileError:
        raise
    except Exception as error:  # OSError for most damage, RuntimeError and others for some
        raise VectorFileError(path, f"is no sound HDF5 file: {error}") from error
    finally:  # the rows are read without h5py
        if file is not None:
            file.close()
        source.close()


def _opened(
    h5py: Any, path: Path, file: Any, source: Source, name: str | None, preferred: tuple[str, ...], memory: int
) -> VectorFile:
    name, dataset = find_dataset(path, file, name, preferred)
    plist = dataset.get_create_plist()
    # Both before anything else is asked: the shape of a virtual dataset may be looked up in other files.
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        raise VectorFileError(path, f"{name} is a virtual dataset, whose numbers lie in other files; open these")
    if plist.get_external_count() > 0:
        raise VectorFileError(path, f"{name} keeps its numbers in another file, which is not read for it")
    if not is_matrix(h5py, dataset):
        raise VectorFileError(path, f"{name} has shape {dataset.shape}, not (n, d)")
    kind = dataset.get_type().get_class()
    if kind not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT):
        said = next((word for word in _KINDS if getattr(h5py.h5t, word) == kind), "OTHER")
        raise VectorFileError(path, f"{name} holds {_KINDS.get(said, 'values of another kind')}, not real numbers")
    metric = _metric(h5py, file)  # while all bytes are counted
    found = _rows(h5py, path, h5py.Dataset(dataset), source, memory)
    found.metric = metric
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


HDF5 = Format(open_hdf5, write_hdf5, several=True, writer="h5py", options=("opening",), unpacks=False)
