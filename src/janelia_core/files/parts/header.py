"""What a part's file says of itself, as JSON: of which search it is, which part of that, and how its rows are kept.

What says of which search it is has no path and no time in it: parts may be made on machines that have their files
elsewhere. Where the files were is a hint for those who merge.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from janelia_core.files.answer.conventions import told_by
from janelia_core.files.errors import VectorFileError
from janelia_core.files.fingerprint import fingerprint
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.inputs.input import Input
from janelia_core.files.parts.record import OfPart, Record
from janelia_core.files.question import Question, Work
from janelia_core.files.resumable import fingerprints_of_labels

VERSION = 1
_MOST_WORDS = 1 << 16  # of a list in a header


@dataclass(frozen=True)
class Header:
    """What a part's file says of itself.

    Attributes:
        task: The search that it is a part of: equal in all its parts.
        part: Which part, as its search was told.
        ctr_rows: First and number of the centres that it is of.
        record: How its rows are kept.
        hint: Where files were, and how they were read: of "centres" and "queries", fields of `Input`; "dtype".
    """

    task: dict[str, Any]
    part: tuple[int, int]
    ctr_rows: tuple[int, int]
    record: Record
    hint: dict[str, Any]

    @classmethod
    def of(cls, question: Question, work: Work, part: OfPart) -> Header:
        """Return what is to be said of a search that is finished."""
        task = {
            "centres": of_input(work.centres, question.centres),
            "queries": of_input(work.queries, question.queries or question.centres),
            "k": part.k,
            "self excluded": part.but_self,
            "metric": part.metric,
            "searched by": work.metric,
            "convention": part.convention,
            "rows": [work.first_query, work.layout.n_smps],
            "centre rows": list(part.ctr_rows),
            "labels": fingerprints_of_labels(question),
        }
        inputs = {"centres": question.centres, "queries": question.queries}
        hint: dict[str, Any] = {name: None if given is None else _hint(given) for name, given in inputs.items()}
        hint["dtype"] = None if question.dtype is None else str(question.dtype).removeprefix("torch.")
        here = (work.first_ctr, work.layout.n_ctrs)
        return cls(json.loads(json.dumps(task)), (part.part.number, part.part.n_parts), here, part.record, hint)

    def __str__(self) -> str:
        return "/".join(map(str, self.part))

    @property
    def rows(self) -> tuple[int, int]:
        """First and number of the queries."""
        first, n = self.task["rows"]
        return first, n

    @property
    def last_ctr(self) -> int:
        """The number behind that of its last centre."""
        return sum(self.ctr_rows)

    def packed(self) -> bytes:
        """Return it as JSON."""
        told = {"version": VERSION, "task": self.task, "part": self.part, "centre rows": self.ctr_rows}
        return json.dumps({**told, "record": self.record._asdict(), "hint": self.hint}).encode()

    @classmethod
    def read(cls, path: Path, raw: bytes) -> Header:
        """Return what the file says.

        Raises:
            VectorFileError: It is none that this library writes.
        """
        try:
            told = json.loads(raw)
            if told["version"] != VERSION:
                raise VectorFileError(path, f"is of version {told['version']!r}, not {VERSION}; search that part anew")
            record = Record(**told["record"])
            task, part, here = dict(told["task"]), tuple(told["part"]), tuple(told["centre rows"])
            sound = all(map(_are_pairs, (task["rows"], task["centre rows"], part, here)))
            sound = sound and all(check(task.get(name)) for name, check in _CHECKS.items())
            sound = sound and isinstance(told["hint"], dict) and _is_sound(record, task, here[1])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            sound = False
        if not sound:
            raise VectorFileError(path, "is damaged: its header is none that a search writes")
        return cls(task, (part[0], part[1]), (here[0], here[1]), record, told["hint"])

    def input(self, path: Path, role: str) -> Input | None:
        """Return where the file of a role was, and how it was read; None: the queries are the centres."""
        told: Any = self.hint.get(role)
        if told is None and role == "queries":
            return None
        try:
            where = told["where"]
            if not (isinstance(where, list) and where and all(isinstance(one, str) for one in where)):
                raise TypeError
            shape = told["shape"]
            known = None if shape is None else (shape[0], int(shape[1]))
            if not all(isinstance(told[name], str | None) for name in ("format", "stored")):
                raise TypeError
            return Input(where[0] if len(where) == 1 else where, told["format"], told["header"], known, told["stored"])
        except (KeyError, TypeError, ValueError, IndexError):
            raise VectorFileError(path, f"is damaged: it does not say where the {role} were; say it") from None


def of_input(file: VectorFile, input: Input) -> dict[str, Any]:
    """Return by what an input is known again on any machine."""
    known = fingerprint(file.files)
    return {"sizes": known["sizes"], "hash": known["hash"], "read as": [input.name, *file.shape, str(file.dtype)]}


def _hint(given: Input) -> dict[str, Any]:
    told = {name: getattr(given, name) for name in ("format", "header", "shape", "stored")}
    return {"where": [os.path.abspath(os.fsdecode(one)) for one in given.all], **told}


def _are_pairs(found: Any) -> bool:
    return isinstance(found, list | tuple) and len(found) == 2 and all(_is_count(number) for number in found)


def _is_count(found: Any) -> bool:
    return type(found) is int and 0 <= found < 2**62


def _is_sound(record: Record, task: Mapping[str, Any], n_ctrs: int) -> bool:
    """Tell whether rows are kept as those of such a search are."""
    searched_by = told_by(task["convention"], task["metric"]).metric
    floats = {4: torch.float32, 8: torch.float64}
    width = min(task["k"] + task["self excluded"], n_ctrs)
    known = record == Record.of(searched_by, width, n_ctrs, floats[record.itemsize])
    return known and width > 0 and task["rows"][1] > 0 and task["searched by"] == searched_by


def _is_known(found: Any) -> bool:
    return isinstance(found, Mapping) and {"sizes", "hash", "read as"} <= found.keys()


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "centres": _is_known,
    "queries": _is_known,
    "k": lambda found: _is_count(found) and found > 0,
    "self excluded": lambda found: type(found) is bool,
    "metric": lambda found: isinstance(found, str),
    "searched by": lambda found: isinstance(found, str),
    "convention": lambda found: found is None or isinstance(found, str),
}
