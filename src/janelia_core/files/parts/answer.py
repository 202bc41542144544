"""The answer of a part of a search: NAME.part, made from lists beside its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from janelia_core.files.answer.conventions import checked_convention
from janelia_core.files.answer.place import Place
from janelia_core.files.answer.room import Need, check_room, there_already, unfinished_bytes
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.registry import Where
from janelia_core.files.parts.header import Header
from janelia_core.files.parts.part_file import part_bytes, write_part
from janelia_core.files.question import Question, Work

SUFFIX = ".part"


@dataclass(frozen=True)
class PartAnswer:
    """Where the answer of a part goes.

    Attributes:
        place: Of the file.
    """

    place: Place

    wants_distances = True
    """They are kept, for whoever merges: nobody has to read centres for them again."""

    @classmethod
    def at(cls, place: Place, distances: Where | None, format: str | None) -> PartAnswer:
        """Check where it is to go."""
        if distances is not None:
            raise ValueError(f"distances must be None for a part, got {distances}: those are written by the merge")
        if format is not None:
            raise ValueError(f"the format of a part's answer is its own, got {format}; the merge writes any")
        if place.said.suffix.lower() != SUFFIX:
            raise VectorFileError(place.said, f"is to be the answer of a part; name it NAME{SUFFIX}, for the merge")
        place.check()
        return cls(place)

    @property
    def purpose(self) -> str:
        """What is made of the search, for its journal."""
        return SUFFIX

    def convention(self, asked: str | None) -> str | None:
        """Return the convention that the merge will tell distances by, if nobody tells it another."""
        return None if asked is None else checked_convention(asked)

    def check(self, work: Work) -> None:
        """Refuse, before the work, to replace an input, and a full disk."""
        self.place.check_inputs([*work.centres.files, *work.queries.files, work.centres.path, work.queries.path])
        check_room(self.needs(work))

    def needs(self, work: Work) -> list[Need]:
        """Return what the disk must have from now on."""
        folder = self.place.target.absolute().parent
        unfinished = sum(unfinished_of(work).values()) - there_already(self.place.unfinished)
        assert work.part is not None
        size = part_bytes(work.layout.n_smps, work.part.record.bytes)
        return [Need(folder, max(0, unfinished), "what is unfinished"), Need(folder, size, self.place.shown)]

    def write(self, folder: Path, question: Question, work: Work) -> None:
        """Write it from what a finished stream left in a folder, and what was asked."""
        assert work.part is not None
        write_part(self.place, Header.of(question, work, work.part), folder / "lists")


def unfinished_of(work: Work) -> dict[str, int]:
    """Return the sizes of the files in the folder of an unfinished search."""
    itemsize = 0 if work.distances is None else work.distances.itemsize
    return unfinished_bytes(work.layout, itemsize, 0 if work.part is None else work.part.record.bytes)
