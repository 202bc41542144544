"""What a search of files would do, and what it would take, without doing it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from janelia_core.files.answer.answer import Answer
from janelia_core.files.answer.conventions import checked_convention
from janelia_core.files.answer.place import Place
from janelia_core.files.answer.standard_output import DASH
from janelia_core.files.disk import Disk, disk_of
from janelia_core.files.formats.registry import Where
from janelia_core.files.inputs.input import Input
from janelia_core.files.inputs.metric_names import notes_on_metric
from janelia_core.files.labels.open import Asked
from janelia_core.files.layout import FILES_MEMORY, Layout
from janelia_core.files.outlook import Outlook, outlook
from janelia_core.files.parts.answer import PartAnswer
from janelia_core.files.parts.ranges import Part
from janelia_core.files.question import Question, Range
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.sizes import show_seconds


@dataclass(frozen=True)
class FilePlan:
    """What a search of files would do.

    Attributes:
        layout: Its blocks, and the bytes that it reads.
        metric: Of the distances.
        disk: What it takes on disk, and where.
        outlook: Which screens run, and how long it takes, as a sample tells.
        notes: What the caller should know, as in `FileReport.notes`.
    """

    layout: Layout
    metric: str
    disk: Disk
    outlook: Outlook
    notes: tuple[str, ...] = ()

    @property
    def block(self) -> Plan:
        """What a block of queries goes through for a block of centres."""
        return self.outlook.block

    @property
    def screens(self) -> list[str]:
        """Which screens run, as `FileReport.screens` says afterwards."""
        return self.outlook.screens

    @property
    def seconds(self) -> float:
        """About how long it takes on this machine, while nothing else runs."""
        return self.outlook.seconds

    def facts(self) -> dict[str, Any]:
        """Return all in plain numbers and names, for JSON."""
        told = self.outlook
        return asdict(self.layout) | {
            "metric": self.metric,
            "notes": self.notes,
            "bytes_planned": self.layout.bytes_read,
            "steps": self.layout.n_steps,
            "screen": told.screens[0],
            "screens": told.screens,
            "look": told.look,
            "sampled": told.sampled,
            "disk_bytes": self.disk.bytes,
            "disk": self.disk.facts(),
            "seconds": told.seconds,
            "seconds_of": {name: getattr(told, name) for name in ("searching", "reading", "writing")},
        }

    def __str__(self) -> str:
        told = self.outlook
        more = ", one neighbour more as each row finds itself" if self.layout.but_self else ""
        some = f", of 1 in {told.sampled:.3g} centres of a block" if told.sampled > 1 else ""
        look = f" ({told.look})" if told.look else ""
        parts = [f"{show_seconds(told.searching)} searching", f"{show_seconds(told.reading)} reading"]
        parts += [f"{show_seconds(told.writing)} writing"] if self.disk.folder is not None else []
        return "\n".join(
            [
                str(self.layout),
                f"each pair of blocks{more}:\n  " + str(self.block).replace("\n", "\n  "),
                str(self.disk),
                f"runs, as a sample tells{some}: {', '.join(told.screens)}{look}",
                *(f"note: {note}" for note in self.notes),
                f"takes about {show_seconds(told.seconds)} here: {', '.join(parts)}",
            ]
        )


def plan_files(
    centres: Where | Input,
    queries: Where | Input | None = None,
    *,
    k: int,
    out: Where | None = None,
    distances: Where | None = None,
    metric: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    max_memory: int | str = FILES_MEMORY,
    m: int | None = None,
    rows: Range = (None, None),
    ctr_rows: Range = (None, None),
    formats: tuple[str | None, ...] = (None, None, None),
    convention: str | None = None,
    labels: tuple[Where, Where] | None = None,
    labels_match: str = "any",
    part: tuple[int, int] | None = None,
) -> FilePlan:
    """Plan what `search_files` does with these arguments: from the files' headers, and from a sample of their rows.

    Args:
        centres: As for `search_files`, and so is all that follows.
        queries: See there.
        k: See there.
        out: Where the answer would go; None: nobody says, and it is planned as `.npz`.
        distances: Where the distances would go; None: nowhere else.
        metric: See there.
        dtype: See there.
        device: See there.
        max_memory: See there; the sample takes no more.
        m: See there.
        rows: See there.
        ctr_rows: See there.
        formats: Of centres, queries and, if you like, out.
        convention: See there.
        labels: See there.
        labels_match: See there.
        part: See there.

    Raises:
        VectorFileError: As `search_files` would, before it begins.
        ValueError: Likewise.

    Time: A second or two, once kernels are loaded. Inputs that have to be decoded are.
    """
    out_format = formats[2] if len(formats) > 2 else None
    of_part = Part.of(part)
    kind = Answer if of_part is None else PartAnswer
    answer = None if out is None else kind.at(_place(out), distances, out_format)
    told = checked_convention(convention) if answer is None else answer.convention(convention)
    inputs = Input.of(centres, formats[0]), None if queries is None else Input.of(queries, formats[1])
    by = None if labels is None else Asked(labels, labels_match)
    question = Question(*inputs, k, metric, dtype, device, max_memory, m, rows, ctr_rows, told, by, of_part)
    return planned(question, answer)


def _place(out: Where) -> Place:
    """Return where an answer is made; that to standard output, of which a plan writes nothing, in TMPDIR."""
    return Place(Path(DASH), Path(tempfile.gettempdir()) / "janelia-knn") if out == DASH else Place.of(out)


def planned(question: Question, answer: Answer | PartAnswer | None) -> FilePlan:
    """Plan a search."""
    start = time.perf_counter()
    with question.opened() as (c, q), question.labelled(c, q) as labels:
        opening = time.perf_counter() - start
        asked = question.work(c, q, answer is None or answer.wants_distances, labels=labels)
        work = asked.searched()
        if answer is not None:
            answer.check(work)
        disk = disk_of(work, answer)
        notes = notes_on_metric(question.metric, c, q)
        return FilePlan(work.layout, asked.metric, disk, outlook(work, disk, opening), notes)
