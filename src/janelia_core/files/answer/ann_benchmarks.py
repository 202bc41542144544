"""A whole data set of ann-benchmarks in one HDF5 file: what was searched, the neighbours and their distances.

    train      (n_ctrs, d) float32     the centres that were searched
    test       (n_smps, d) float32     the queries
    neighbors  (n_smps, k) int32       row numbers of train
    distances  (n_smps, k) float32     Euclidean distances, or 1 - cosine
    attributes: type "dense", distance "euclidean" or "angular", dimension, point_type "float"

Needs h5py, of the extra `files`. Source: write_output of
https://github.com/erikbern/ann-benchmarks, and the files that it serves, whose numbers are float32 and int32.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Rows, VectorFile, blocks
from janelia_core.files.formats.hdf5.dataset import HDF5
from janelia_core.files.question import Work

NAME = "ann-benchmarks"
DISTANCES = {"euclidean": "euclidean", "cosine": "angular"}
_FITS_FLOAT32 = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.uint16,
)


class _Part:
    """Some rows of an open file, as `Rows`."""

    def __init__(self, file: VectorFile, first: int, n: int) -> None:
        self._file, self._first, self.n, self.d, self.dtype = file, first, n, file.d, file.dtype

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start .. stop - 1."""
        return self._file.read(self._first + start, self._first + stop)


def check(path: Path, work: Work) -> None:
    """Refuse what such a file cannot hold, or would tell wrongly."""
    if work.layout.but_self:
        reason = "is a data set of ann-benchmarks, in which a row that is searched for may be found; give QUERIES"
        raise VectorFileError(path, f"{reason}, or take another format")
    for what, file in (("centres", work.centres), ("queries", work.queries)):
        if file.dtype not in _FITS_FLOAT32:
            raise VectorFileError(
                path, f"holds float32, which rounds the {what} of {file.dtype}; round them before: dtype float32"
            )


def bytes_of_vectors(work: Work) -> int:
    """Return what centres and queries take in the file."""
    return 4 * work.centres.d * (work.layout.n_ctrs + work.layout.n_smps)


def write(path: Path, indices: Rows, distances: Rows, work: Work) -> None:
    """Write the data set, some MiB at a time."""
    h5py = import_extra("h5py", "files")
    layout = work.layout
    with h5py.File(path, "w", libver="earliest") as file:
        file.attrs["type"] = "dense"
        file.attrs["distance"] = DISTANCES[work.told.metric]
        file.attrs["dimension"] = work.centres.d
        file.attrs["point_type"] = "float"
        for name, rows, dtype, first in (
            ("train", _Part(work.centres, work.first_ctr, layout.n_ctrs), "f4", 0),
            ("test", _Part(work.queries, work.first_query, layout.n_smps), "f4", 0),
            ("neighbors", indices, "i4", work.first_ctr),  # of the file of centres -> of train
            ("distances", distances, "f4", 0),
        ):
            dataset, at = file.create_dataset(name, (rows.n, rows.d), dtype, track_times=False), 0
            for block in blocks(rows):
                dataset[at : at + len(block)] = block - block.dtype.type(first) if first else block
                at += len(block)


ANN_BENCHMARKS = HDF5._replace(index_bits=32)
