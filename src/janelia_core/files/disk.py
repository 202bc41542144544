"""What a search of files takes on disk, and where: known before the search."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from janelia_core.files.answer.answer import Answer
from janelia_core.files.answer.room import Need
from janelia_core.files.parts.answer import PartAnswer, unfinished_of
from janelia_core.files.question import Work
from janelia_core.sizes import show_bytes

_DECODED = "decoded inputs"


@dataclass(frozen=True)
class Disk:
    """Bytes that a search takes on disk at the same time, beside its inputs.

    Attributes:
        needs: What is written into which folder: the unfinished search, the answer made from it and distances in a file
            of their own (text may take more), and inputs that are decoded, as long as they are open.
        folder: Where the answer goes; None: nobody said.
    """

    needs: tuple[Need, ...]
    folder: Path | None

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(need.bytes for need in self.needs)

    @property
    def written(self) -> int:
        """Bytes of the answer, and of what it is made from."""
        return sum(need.bytes for need in self.needs if need.what != _DECODED)

    def facts(self) -> list[dict[str, Any]]:
        """Return what is needed, in plain numbers and names."""
        return [{"folder": str(need.folder), "bytes": need.bytes, "for": need.what} for need in self.needs]

    def __str__(self) -> str:
        parts = ", ".join(f"{show_bytes(need.bytes)} for {need.what} in {need.folder}" for need in self.needs)
        return f"disk: {show_bytes(self.bytes)}: {parts}"


def disk_of(work: Work, answer: Answer | PartAnswer | None) -> Disk:
    """Return what a search takes on disk; where nobody says where that goes, in this folder, as `.npz` or `.part`."""
    if answer is None:
        itemsize = 0 if work.distances is None else work.distances.itemsize
        unfinished = sum(unfinished_of(work).values())
        row = work.layout.k * (8 + itemsize) if work.part is None else work.part.record.bytes
        numbers = work.layout.n_smps * row
        needs = [Need(Path(), unfinished, "what is unfinished"), Need(Path(), numbers, "the answer")]
    else:
        needs = answer.needs(work)
    decoded = work.centres.spooled_bytes + work.queries.spooled_bytes
    if decoded:
        needs.append(Need(Path(tempfile.gettempdir()), decoded, _DECODED))
    return Disk(tuple(needs), None if answer is None else answer.place.target.absolute().parent)
