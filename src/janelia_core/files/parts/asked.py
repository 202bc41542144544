"""What a merge is asked: what its parts were, of files that may be elsewhere now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from janelia_core.files.answer.answer import Answer
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.formats.registry import Where, split_name
from janelia_core.files.inputs.input import Input
from janelia_core.files.parts.header import of_input
from janelia_core.files.parts.part_file import PartFile
from janelia_core.files.question import Question, Range


def question_of(
    file: PartFile,
    answer: Answer,
    centres: Where | Input | None,
    queries: Where | Input | None,
    rows: Range,
    convention: str | None,
    max_memory: int | str,
) -> Question:
    """Return what the parts were asked, of the files as they are named here.

    Args:
        file: Any of the parts.
        answer: Where the answer goes.
        centres: As for `merge_files`, and so is all that follows.
        queries: See there.
        rows: See there.
        convention: See there.
        max_memory: See there.
    """
    header, task = file.header, file.header.task
    inputs = {"centres": header.input(file.path, "centres"), "queries": header.input(file.path, "queries")}
    for role, given in (("centres", centres), ("queries", queries)):
        was = inputs[role]
        if given is not None and was is None:
            raise ValueError(f"{role} must be None, got {given}: the parts were searched for neighbours of the centres")
        if given is not None and was is not None:
            inputs[role] = given if isinstance(given, Input) else replace(was, where=given)
        elif was is not None:
            _check_there(was, role, file.path)
    first, n = header.rows
    start, stop = first if rows[0] is None else rows[0], first + n if rows[1] is None else rows[1]
    if not first <= start < stop <= first + n:
        told = f"rows must lie within those that the parts were searched for, {first}:{first + n}, and not be empty"
        raise ValueError(f"{told}, got {start}:{stop}")
    told_by = answer.convention(convention) or (task["convention"] if answer.wants_distances else None)
    first_ctr, n_ctrs = task["centre rows"]
    found = inputs["centres"]
    assert found is not None
    return Question(
        found,
        inputs["queries"],
        task["k"],
        task["metric"],
        header.hint.get("dtype"),
        None,
        max_memory,
        None,
        (start, stop),
        (first_ctr, first_ctr + n_ctrs),
        told_by,
    )


def _check_there(was: Input, role: str, part: Path) -> None:
    """Refuse a merge that does not know where files are: a part says where they were."""
    for one in was.all:
        path = split_name(one)[0]
        if not path.exists() and not any(mark in str(path) for mark in "*?["):
            raise FileNotFoundError(f"{path}: is not here, where the {role} of {part} were; say where: --{role} FILE")


def check_inputs(question: Question, c: VectorFile, q: VectorFile, part: PartFile) -> None:
    """Refuse other files than those that were searched."""
    roles: dict[str, tuple[VectorFile, Any]] = {
        "centres": (c, question.centres),
        "queries": (q, question.queries or question.centres),
    }
    for role, (file, given) in roles.items():
        known, here = part.header.task[role], of_input(file, given)
        if known != here:
            differs = "its content differs" if known["sizes"] == here["sizes"] else "its size differs"
            if known["read as"] != here["read as"]:
                differs = f"it is read as {here['read as']}, they were {known['read as']}"
            raise VectorFileError(
                file.path, f"is not the file of {role} that {part.path} was searched with: {differs}; name that"
            )
