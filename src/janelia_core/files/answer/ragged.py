"""An answer of as many neighbours a query as there are: spooled beside its place, then made and renamed.

`.rangeres` is the range ground truth of big-ann-benchmarks, little-endian: int32 number of queries and of all results;
int32 number of each query's results; int32 row numbers; float32 distances. `.npz` holds offsets, indices, distances.

Source: range_result_read in benchmark/dataset_io.py of https://github.com/harsha-simhadri/big-ann-benchmarks, whose
FB_ssnpp_public_queries_1B_GT.rangeres gives the suffix.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from janelia_core.durable import replaced
from janelia_core.files.answer.place import Place
from janelia_core.files.answer.room import Need, check_room
from janelia_core.files.errors import VectorFileError

STREAMED = ("rangeres",)
_MOST = 2**31 - 1  # what int32 holds


class RaggedAnswer(contextlib.ExitStack):
    """Takes the neighbours of the queries in their order; on leaving, what is not finished is gone."""

    def __init__(self, place: Place, format: str | None) -> None:
        super().__init__()
        self.path, self._place, self.found, self._n = place.said, place, 0, 0
        name = (format or self.path.suffix.removeprefix(".")).lower()
        if name not in ("rangeres", "npz"):
            raise VectorFileError(self.path, f"holds no neighbours within a radius as {name!r}; take rangeres or npz")
        self._int32 = name == "rangeres"
        place.check()

    def begin(self, n: int, n_ctrs: int, distances: torch.dtype, inputs: Sequence[Path]) -> None:
        """Refuse what will not be written, before the work, and open nameless files for the three arrays."""
        self._place.check_inputs(inputs)
        if self._int32 and max(n, n_ctrs - 1) > _MOST:
            raise VectorFileError(
                self.path, f"the format has int32 only, too small for {n} queries or {n_ctrs} centres"
            )
        whole, real = ("<i4", "<f4") if self._int32 else ("<i8", f"<f{distances.itemsize}")
        self._dtypes = {"offsets": whole, "indices": whole, "distances": real}
        folder = self._place.target.absolute().parent
        check_room([Need(folder, 2 * n * np.dtype(whole).itemsize, f"{self.path}, without any neighbour")])
        self._spools = {name: self._spool(folder) for name in self._dtypes}
        if not self._int32:
            self._put("offsets", torch.zeros(1, dtype=torch.int64))

    def add(self, counts: Tensor, indices: Tensor, distances: Tensor) -> None:
        """Add how many neighbours each of the next queries has (r,), their row numbers and their distances (p,)."""
        if self._int32 and self.found + len(indices) > _MOST:
            raise VectorFileError(self.path, f"the format has int32 only, too small for {_MOST + 1} results; take npz")
        self._put("offsets", counts if self._int32 else self.found + counts.cumsum(0))
        self._put("indices", indices)
        self._put("distances", distances.float() if self._int32 else distances)
        self._n, self.found = self._n + len(counts), self.found + len(indices)

    def finish(self) -> None:
        """Make the file, put it on the disk, then in its place."""
        beside = self._place.beside
        with replaced(self._place.target, beside):
            if self._int32:
                with beside.open("wb") as file:
                    file.write(struct.pack("<ii", self._n, self.found))
                    for name in self._spools:
                        self._copy(name, file)
                return
            with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
                for name, dtype in self._dtypes.items():
                    shape = (self._n + 1 if name == "offsets" else self.found,)
                    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                        header = {"descr": dtype, "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_1_0(file, header)
                        self._copy(name, file)

    def _spool(self, folder: Path) -> IO[bytes]:
        return self.enter_context(tempfile.TemporaryFile(dir=folder))

    def _put(self, name: str, values: Tensor) -> None:
        self._spools[name].write(np.ascontiguousarray(values.numpy(), dtype=self._dtypes[name]).data)

    def _copy(self, name: str, file: IO[bytes]) -> None:
        self._spools[name].seek(0)
        shutil.copyfileobj(self._spools[name], file, 1 << 20)
