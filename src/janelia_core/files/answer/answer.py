"""The answer's file: made from finished raw arrays beside its place, then renamed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from janelia_core.durable import replaced
from janelia_core.extras import import_extra
from janelia_core.files.answer import ann_benchmarks
from janelia_core.files.answer.conventions import checked_convention
from janelia_core.files.answer.place import Place
from janelia_core.files.answer.room import Need, check_room, file_bytes, there_already, unfinished_bytes
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Arrays, Rows
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.formats.registry import Where, format_named, format_of
from janelia_core.files.question import Work


@dataclass(frozen=True)
class Answer:
    """Where an answer goes.

    Attributes:
        place: Of the indices, and of the distances where the format holds both.
        format: Of that file.
        distances: Of the distances alone, or None.
    """

    place: Place
    format: str
    distances: Place | None

    @classmethod
    def at(cls, place: Place, distances: Where | None, format: str | None) -> Answer:
        """Check where an answer is to go, so that no search ends with an answer that cannot be written."""
        name = format_of(place.said, format)
        if not format_named(name).index_bits:
            reason = f"the format {name} holds vectors, no indices; take npy, npz, ivecs, ibin, ..."
            raise VectorFileError(place.said, reason)
        _check(place, name)
        if distances is None:
            return cls(place, name, None)
        apart = Place.of(distances)
        if distances == "-":
            raise VectorFileError(apart.said, "distances need a file of their own, not standard output")
        kind = format_of(apart.said)
        if not format_named(kind).distances:
            reason = f"the format {kind} holds integers, no distances; take npy, fvecs, fbin, ..."
            raise VectorFileError(apart.said, reason)
        if place.meets(apart):
            reason = "is the file of the indices, or what that is made from; give the distances one of their own"
            raise VectorFileError(apart.said, reason)
        _check(apart, kind)
        return cls(place, name, apart)

    @property
    def is_whole(self) -> bool:
        """Whether the file holds what is searched as well."""
        return self.format == ann_benchmarks.NAME

    @property
    def purpose(self) -> str:
        """What is made of the search, for its journal."""
        return self.format

    @property
    def wants_distances(self) -> bool:
        """Whether distances are written at all."""
        return format_named(self.format).several or self.distances is not None

    def convention(self, asked: str | None) -> str | None:
        """Return the convention by which distances are told, if any are.

        Raises:
            ValueError: There is none of that name, or it is not that of the file.
        """
        if asked is None:
            return ann_benchmarks.NAME if self.is_whole else None
        name = checked_convention(asked)
        if not self.wants_distances:
            reason = f"convention {name} is about distances, but {self.place.said} holds none"
            raise ValueError(f"{reason}; take npz, hdf5, ibin, ... or write the distances to a file of their own")
        if self.is_whole and name != ann_benchmarks.NAME:
            raise ValueError(f"convention must be ann-benchmarks for a data set of ann-benchmarks, got {asked!r}")
        return name

    def check(self, work: Work, others: Iterable[Path] = ()) -> None:
        """Refuse, before the work, row numbers that the format cannot hold, to replace an input, and a full disk.

        Args:
            work: What is searched.
            others: Files beside those that must stay, too.
        """
        inputs = [*work.centres.files, *work.queries.files, work.centres.path, work.queries.path, *others]
        apart = self.distances
        for place in (self.place, apart):
            if place is not None:
                place.check_inputs(inputs)
        format, n_ctrs = format_named(self.format), work.layout.n_ctrs
        if self.is_whole:
            ann_benchmarks.check(self.place.said, work)
        else:
            n_ctrs += work.first_ctr
        for place, kind in [(self.place, self.format), *([(apart, format_of(apart.said))] if apart else [])]:
            most = format_named(kind).most_rows
            if most is not None and work.layout.n_smps > most:
                raise VectorFileError(
                    place.said, f"the format {kind} holds {most} rows at most, not {work.layout.n_smps}"
                )
        if n_ctrs > 2 ** (format.index_bits - 1):
            reason = f"the format {self.format} has int{format.index_bits} only, too small for {n_ctrs} centres"
            raise VectorFileError(self.place.said, reason)
        check_room(self.needs(work))

    def needs(self, work: Work) -> list[Need]:
        """Return what the disk must have from now on: an unfinished search has some of it already."""
        layout, format = work.layout, format_named(self.format)
        numbers, itemsize = layout.n_smps * layout.k, 0 if work.distances is None else work.distances.itemsize
        sizes = sum(unfinished_bytes(layout, itemsize).values()) - there_already(self.place.unfinished)
        each = format.index_bits // 8
        if format.several:
            each += 4 if format.index_bits == 32 else itemsize
        size = file_bytes(self.format, numbers * each)
        if self.is_whole:
            size += ann_benchmarks.bytes_of_vectors(work)
        folder = self.place.target.absolute().parent
        needs = [Need(folder, max(0, sizes), "what is unfinished"), Need(folder, size, self.place.shown)]
        if self.distances is not None:
            size = file_bytes(format_of(self.distances.said), numbers * 4)
            needs.append(Need(self.distances.target.absolute().parent, size, str(self.distances.said)))
        return needs

    def write(self, folder: Path, work: Work) -> None:
        """Write the answer from the arrays that a finished stream left in a folder."""
        n, k = work.layout.n_smps, work.layout.k
        indices = RawVectors(folder / "indices", 0, n, k, "i8")
        with indices:
            if work.distances is None:
                self._put({"indices": indices}, work)
                return
            measured = RawVectors(folder / "distances", 0, n, k, f"f{work.distances.itemsize}")
            with measured:
                if self.distances is not None:
                    with replaced(self.distances.target, self.distances.beside):
                        kind = format_of(self.distances.said)
                        format_named(kind).write(self.distances.beside, {"distances": measured})
                both: dict[str, Rows] = {"indices": indices, "distances": measured}
                self._put(both if format_named(self.format).several else {"indices": indices}, work)

    def _put(self, arrays: Arrays, work: Work) -> None:
        """Write the file beside its place, put it on the disk, then rename it."""
        with replaced(self.place.target, self.place.beside):  # what it removes on failure can be made again
            if self.is_whole:
                ann_benchmarks.write(self.place.beside, arrays["indices"], arrays["distances"], work)
            else:
                format_named(self.format).write(self.place.beside, arrays)


def _check(place: Place, format: str) -> None:
    """Refuse a place where no file can be put, and a format that cannot be written here."""
    place.check()
    writer = format_named(format).writer
    if writer is not None:
        import_extra(writer, "files")
