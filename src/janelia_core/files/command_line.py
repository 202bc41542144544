"""The command to type for a search or a check of files: what is said where one is to go on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from janelia_core.files.answer.answer import Answer
from janelia_core.files.formats.registry import Where
from janelia_core.files.inputs.input import Input
from janelia_core.files.labels.open import Asked
from janelia_core.files.layout import FILES_MEMORY
from janelia_core.files.parts.answer import PartAnswer
from janelia_core.files.question import Question, Range


def words_of_search(question: Question, answer: Answer | PartAnswer, format: str | None) -> list[str]:
    """Return the words of `janelia-knn search` that ask this question; none where no command line can ask it."""
    if not _can_be_typed(question):
        return []
    return [
        *["search", *_inputs(question)],
        *["-k", str(question.k), *_option("--out", answer.place.said), *_option("--out-format", format)],
        *([] if isinstance(answer, PartAnswer) else _option("--distances", answer.distances and answer.distances.said)),
        *_option("--part", question.part),
        *_option("--convention", question.convention),
        *_option("-m", question.m),
        *_options(question),
    ]


def words_of_merge(
    parts: Where | Sequence[Where],
    answer: Answer,
    format: str | None,
    question: Question,
    inputs: Sequence[Where | Input | None],
) -> list[str]:
    """Return the words of `janelia-knn merge`, `inputs` being centres and queries as they are named."""
    if any(isinstance(one, Input) for one in inputs):
        return []
    named = [parts] if isinstance(parts, str | os.PathLike) else parts
    return [
        *["merge", *map(_file, named)],
        *(word for name, one in zip(("--centres", "--queries"), inputs, strict=True) for word in _option(name, one)),
        *[*_option("--out", answer.place.said), *_option("--out-format", format)],
        *_option("--distances", answer.distances and answer.distances.said),
        *_option("--convention", question.convention),
        *_option("--rows", _range(question.rows)),
        *([] if question.max_memory == FILES_MEMORY else _option("--max-memory", question.max_memory)),
    ]


def words_of_verify(question: Question, answer: Input, k: int | None, more: dict[str, Any]) -> list[str]:
    """Return the words of `janelia-knn verify`, `more` being options by name; none where none can ask it."""
    if not _can_be_typed(question) or len(answer.all) > 1:
        return []
    return [
        *[
            "verify",
            *_inputs(question),
            _file(answer.all[0]),
            *_option("-k", k),
            *_option("--answer-format", answer.format),
        ],
        *(word for name, value in more.items() for word in _option(name, value)),
        *_options(question),
    ]


def _can_be_typed(question: Question) -> bool:
    """Tell whether each input is one file, folder or pattern, and both are read in one way."""
    inputs = [input for input in (question.centres, question.queries) if input is not None]
    return all(len(input.all) == 1 for input in inputs) and len({(one.header, one.stored) for one in inputs}) == 1


def _inputs(question: Question) -> list[str]:
    return [_file(input.all[0]) for input in (question.centres, question.queries) if input is not None]


def _options(question: Question) -> list[str]:
    """Return the options of a question, in which those of both files are those of the centres."""
    centres, queries = question.centres, question.queries
    memory = None if question.max_memory == FILES_MEMORY else question.max_memory
    return [
        *_option("--centres-format", centres.format),
        *_option("--queries-format", None if queries is None else queries.format),
        *([] if centres.header is None else ["--header" if centres.header else "--no-header"]),
        *_option("--shape", _shape(centres)),
        *_option("--queries-shape", None if queries is None else _shape(queries)),
        *_option("--stored", centres.stored),
        *_option("--metric", question.metric),
        *_option("--dtype", None if question.dtype is None else str(question.dtype).removeprefix("torch.")),
        *_option("--device", question.device),
        *_option("--rows", _range(question.rows)),
        *_option("--ctr-rows", _range(question.ctr_rows)),
        *_option("--max-memory", memory),
        *([] if question.labels is None else _labels(question.labels)),
    ]


def _labels(labels: Asked) -> list[str]:
    return ["--labels", *map(_file, labels.files), *([] if labels.match == "any" else ["--labels-match", labels.match])]


def _option(name: str, value: object) -> list[str]:
    return [] if value is None else [name, _file(value) if isinstance(value, os.PathLike | bytes) else str(value)]


def _file(where: str | bytes | os.PathLike[str]) -> str:
    """Return a file as it can be typed, also where it begins like an option."""
    text = os.fsdecode(where)
    return os.path.join(os.curdir, text) if text.startswith("-") else text


def _shape(input: Input) -> str | None:
    if input.shape is None:
        return None
    n, d = input.shape
    return f"{'' if n is None else n},{d}"


def _range(rows: Range) -> str | None:
    return None if rows == (None, None) else ":".join("" if row is None else str(row) for row in rows)
