"""What a search has finished, so that it can go on after a kill, a power cut or a full disk.

A folder `OUT.unfinished` beside the answer:

    journal     a line of JSON about what is searched, then a line for every finished step
    indices     (n, k) int64, the answer so far
    distances   (n, k) float64 or float32, likewise
    state       running lists of rows that have not met all centres, each block in two slots that take turns

A step's data is on the disk before its line is, and a slot is written only while the other one holds what the
journal speaks of. When all is done the journal goes first. So a journal, also one cut off, describes what is there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from janelia_core.durable import sync_folder
from janelia_core.files.answer.place import Place
from janelia_core.positioned import write_all

VERSION = 1
_DATA = ("indices", "distances", "state")


class Journal:
    """The folder of an unfinished search.

    Attributes:
        folder: The folder.
        finished: Number of finished steps.
    """

    def __init__(self, folder: Path, finished: int, file: int) -> None:
        self.folder, self.finished, self._file = folder, finished, file

    def close(self) -> None:
        """Let go of the folder; what is in it stays."""
        os.close(self._file)

    def add(self) -> None:
        """Write down that one more step is finished, whose data is on the disk."""
        _write_line(self._file, {"finished": self.finished + 1})
        self.finished += 1

    @contextlib.contextmanager
    def ended(self) -> Iterator[None]:
        """End the search with the block: nothing is kept of a complete one, nor of one that has finished nothing.

        Where nothing is finished there is nothing to resume, nor to stand in the next search's way.
        """
        try:
            yield
        except BaseException:
            if self.finished:
                self.close()
            else:
                self.remove()
            raise
        self.remove()

    def remove(self) -> None:
        """Remove what a complete search kept, and its folder unless somebody put more into that.

        The journal goes first, for good: one that outlived its data would speak of an answer that is not there. The
        lock is held until nothing is left that another process could take for an unfinished search.
        """
        (self.folder / "journal").unlink()
        sync_folder(self.folder)
        for name in _DATA:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / name).unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
        self.close()
        sync_folder(self.folder.parent)


def folder_of(out: Path) -> Path:
    """Return where the unfinished answer `out` is kept."""
    return Place.of(out).unfinished


def begin(out: Path, task: Mapping[str, Any], *, resume: bool) -> Journal:
    """Open the journal of a search, new or begun.

    Args:
        out: Where the answer will go.
        task: All that decides the answer and its blocks, as JSON would give it back.
        resume: Go on with what is there, if anything is.

    Raises:
        FileExistsError: There is an unfinished search, and resume is not asked for.
        ValueError: The unfinished search is another one, or its inputs have changed since.
    """
    folder = folder_of(out)
    task = {"version": VERSION, **json.loads(json.dumps(task))}
    if folder.exists() and not resume:
        if folder.is_dir() and not any((folder / name).exists() for name in ("journal", *_DATA)):
            raise FileExistsError(f"{folder}: is in the way, and holds no unfinished search; remove or rename it")
        raise FileExistsError(
            f"{folder}: an unfinished search is there; resume it, or remove that folder to begin anew"
        )
    folder.mkdir(exist_ok=True)
    file = os.open(folder / "journal", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    journal, empty = Journal(folder, 0, file), False
    try:
        _lock(file, folder)
        if os.fstat(file).st_nlink == 0:
            raise ValueError(f"{folder}: another process has just finished this search")
        lines, sound = _sound_lines(folder / "journal")
        os.ftruncate(file, sound)
        if lines:
            _compare(folder, lines[0], task)
            journal.finished = len(lines) - 1
            return journal
        empty = True
        _write_line(file, task)
        sync_folder(folder)
        sync_folder(folder.parent)
    except BaseException:
        if empty:
            journal.remove()
        else:
            journal.close()
        raise
    return journal


def _sound_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines up to where a crash cut one off, and how many bytes they take.

    Raises:
        ValueError: A whole line is not what a search writes.
    """
    lines: list[dict[str, Any]] = []
    sound = 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            found = json.loads(line)
        except ValueError:
            break
        if not isinstance(found, dict) or (lines and found != {"finished": len(lines)}):
            raise ValueError(
                f"{path}: the journal is damaged in line {len(lines) + 1}; remove its folder to begin anew"
            )
        lines.append(found)
        sound += len(line)
    return lines, sound


def _compare(folder: Path, begun: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse to mix two searches."""
    for key in sorted({*begun, *asked}):
        if begun.get(key) == asked.get(key):
            continue
        if key in ("centres", "queries"):
            raise ValueError(f"{folder}: the {key} changed since this search was begun: {begun[key]} -> {asked[key]}")
        raise ValueError(f"{folder}: this search was begun with {key} {begun.get(key)}, not {asked.get(key)}")


def _lock(file: int, folder: Path) -> None:
    """Keep a second process out, where the system has such locks; they end with the process."""
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{folder}: another process is at work on this search") from None


def _write_line(file: int, line: Mapping[str, Any]) -> None:
    write_all(file, json.dumps(line).encode() + b"\n", None)
    os.fsync(file)
