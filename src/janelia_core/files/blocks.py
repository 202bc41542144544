"""Blocks of rows of one input, read when they are asked for, and known again by a digest of what was read.

The first reading of a block in a run is digested; the journal keeps the digest. A later reading is digested as well,
and compared, once any of the files is not in the state that it was in. So rows that changed while they were searched,
or before the search goes on, are found wherever they matter: an answer is never made from two versions of a block.

Cost: one SHA-256 of what is read first, by as many threads as torch has. Memory: the block.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
from torch import Tensor

from janelia_core.files.fingerprint import states
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.question import Work
from janelia_core.ml._index.stored.digests import digests


class Blocks:
    """The rows of a file that are searched, a block at a time.

    Args:
        role: "centres" or "queries".
        file: The open file.
        first: Its first row that is searched; rows are counted from there.
        n: How many are.
        rows: Of a block, at most.
        known: Digests by role and rows, "centres 0:100"; what is read first is added.
    """

    def __init__(
        self, role: str, file: VectorFile, first: int, n: int, rows: int, known: MutableMapping[str, str]
    ) -> None:
        self._role, self._file, self._first, self._n, self._known = role, file, first, n, known
        self._buffer = torch.empty(rows, file.d, dtype=file.dtype)
        self._here: tuple[int, int] | None = None
        self._digested: set[tuple[int, int]] = set()
        self._states = states(file.files)

    @classmethod
    def of_queries(cls, work: Work, known: MutableMapping[str, str]) -> Blocks:
        """Return the queries' blocks of a search."""
        return cls("queries", work.queries, work.first_query, work.layout.n_smps, work.layout.row_block, known)

    @classmethod
    def of_centres(cls, work: Work, known: MutableMapping[str, str]) -> Blocks:
        """Return the centres' blocks of a search."""
        return cls("centres", work.centres, work.first_ctr, work.layout.n_ctrs, work.layout.ctr_block, known)

    def block(self, number: int) -> Tensor:
        """Return a block as `read` does, all of them but the last having as many rows as there may be."""
        start = number * len(self._buffer)
        return self.read(start, min(start + len(self._buffer), self._n))

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start .. stop - 1, valid until others are asked for.

        Raises:
            ValueError: The same block held other rows before.
        """
        rows, block = (start, stop), self._buffer[: stop - start]
        if rows != self._here:
            self._here = None
            self._file.read(self._first + start, self._first + stop, out=block)
            if rows not in self._digested or states(self._file.files) != self._states:
                self._compare(start, stop, block)
            self._here = rows
        return block

    def compare_all(self) -> None:
        """Read every block anew that was read before, and compare.

        Raises:
            ValueError: One of them holds other rows now.
        """
        for name in list(self._known):
            role, _, rows = name.partition(" ")
            start, stop = map(int, rows.split(":"))
            if role == self._role:
                if not start < stop <= min(self._n, start + len(self._buffer)):
                    raise ValueError(f"the journal speaks of {name}, which this search does not have")
                self._here = None
                self._digested.discard((start, stop))
                self.read(start, stop)

    def _compare(self, start: int, stop: int, block: Tensor) -> None:
        (digest,) = digests([block.view(-1).view(torch.uint8).numpy().data])
        if self._known.setdefault(f"{self._role} {start}:{stop}", digest) != digest:
            here = (start, stop) in self._digested  # by this run
            when = "while they were searched" if here else "since this search was begun"
            raise ValueError(
                f"the {self._role} changed {when}: rows {self._first + start} to {self._first + stop - 1} of "
                f"{self._file.path} are not those that it has read"
            )
        self._digested.add((start, stop))
