"""What a search has finished, so that it can go on after a kill, a power cut or a full disk.

A folder `OUT.unfinished` beside the answer:

    journal     a line of JSON about what is searched, then a line for every finished step
    indices     (n, k) int64, the answer so far
    distances   (n, k) float64 or float32, likewise
    lists       instead of both, in the search of a part: its rows as `parts.record` says
    state       running lists of rows that have not met all centres, each block in two slots that take turns

A step's data is on the disk before its line is, and a slot is written only while the other one holds what the
journal speaks of. When all is done the journal goes first. So a journal, also one cut off, describes what is there.
A step's line has the digests of the blocks that were read for it first.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from janelia_core.durable import sync_folder
from janelia_core.files.answer.place import Place
from janelia_core.files.fingerprint import may_be_same
from janelia_core.files.lock import lock
from janelia_core.files.shell import command
from janelia_core.positioned import write_all

VERSION = 2
_DATA = ("indices", "distances", "lists", "state")
_INPUTS = ("centres", "queries")
_READ = re.compile(r"(centres|queries) \d{1,18}:\d{1,18}")


class Journal:
    """The folder of an unfinished search.

    Attributes:
        folder: The folder.
        finished: Number of finished steps.
        digests: Of the blocks that were read, by name.
        begun: What it was begun with, or nothing where it begins now.
    """

    def __init__(self, folder: Path, file: int) -> None:
        self.folder, self._file = folder, file
        self.finished = 0
        self.digests: dict[str, str] = {}
        self.begun: dict[str, Any] = {}
        self._written: set[str] = set()

    def close(self) -> None:
        """Let go of the folder; what is in it stays."""
        os.close(self._file)

    def add(self) -> None:
        """Write down that one more step is finished, whose data is on the disk, and which blocks it read first."""
        new = {name: digest for name, digest in self.digests.items() if name not in self._written}
        _write_line(self._file, {"finished": self.finished + 1, "read": new})
        self._written |= new.keys()
        self.finished += 1

    def go_on(self, lines: Sequence[dict[str, Any]]) -> None:
        """Take up what the sound lines of a journal say."""
        self.begun, self.finished = lines[0], len(lines) - 1
        for line in lines[1:]:
            self.digests |= line["read"]
        self._written = set(self.digests)

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


def resuming(words: Sequence[str]) -> str:
    """Return the command to type by which a search goes on; in words, where none can be typed."""
    return command([*words, "--resume"]) if words else "the same call with resume=True"


def begun_with(out: Path) -> dict[str, Any]:
    """Return what the unfinished search beside `out` was begun with, or nothing where there is none to speak of."""
    try:
        with (folder_of(out) / "journal").open("rb") as file:
            found = json.loads(file.readline())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def begin(out: Path, task: Mapping[str, Any], words: Sequence[str], *, resume: bool) -> Journal:
    """Open the journal of a search, new or begun.

    Args:
        out: Where the answer will go.
        task: All that decides the answer and its blocks, as JSON would give it back.
        words: The command line that asks for it, without the name of the program.
        resume: Go on with what is there, if anything is.

    Raises:
        FileExistsError: There is an unfinished search, and resume is not asked for.
        ValueError: The unfinished search is another one, or its inputs have changed since.
    """
    folder = folder_of(out)
    task = {"version": VERSION, **json.loads(json.dumps(task)), "words": list(words)}
    if folder.exists() and not resume:
        _refuse(folder, out, words)
    folder.mkdir(exist_ok=True)
    file = os.open(folder / "journal", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    journal, empty = Journal(folder, file), False
    try:
        lock(file, folder)
        if os.fstat(file).st_nlink == 0:
            raise ValueError(f"{folder}: another process has just finished this search")
        lines, sound = _sound_lines(folder / "journal")
        os.ftruncate(file, sound)
        if lines:
            _compare(folder, lines[0], task)
            journal.go_on(lines)
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


def _refuse(folder: Path, out: Path, words: Sequence[str]) -> None:
    """Say how to go on, or what else to do about a folder in the way."""
    if folder.is_dir() and not any((folder / name).exists() for name in ("journal", *_DATA)):
        raise FileExistsError(f"{folder}: is in the way, and holds no unfinished search; remove or rename it")
    told = "an unfinished search is there; remove that folder to begin anew, or resume it by"
    raise FileExistsError(f"{folder}: {told}: {resuming(_words(begun_with(out)) or words)}")


def _words(begun: Mapping[str, Any]) -> list[str]:
    """Return the words of the command that a search was begun with, as far as a file can be trusted with that."""
    words = begun.get("words")
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else []


def _sound_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines up to where a crash cut one off, and how many bytes they take.

    Raises:
        ValueError: A whole line is not what a search writes.
    """
    lines: list[dict[str, Any]] = []
    sound = 0
    with path.open("rb") as file:
        for line in file:
            try:
                if not line.endswith(b"\n"):
                    break
                found = json.loads(line)
            except ValueError:
                break
            if not isinstance(found, dict) or (lines and not _is_step(found, len(lines))):
                raise ValueError(
                    f"{path}: the journal is damaged in line {len(lines) + 1}; remove its folder to begin anew"
                )
            lines.append(found)
            sound += len(line)
    return lines, sound


def _is_step(line: Mapping[str, Any], number: int) -> bool:
    read = line.get("read")
    if line.get("finished") != number or not isinstance(read, dict):
        return False
    return all(_READ.fullmatch(name) and isinstance(digest, str) for name, digest in read.items())


def _compare(folder: Path, begun: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse to mix two searches."""
    if begun.get("version") != VERSION:
        raise ValueError(f"{folder}: another version of this library began it; remove that folder to begin anew")
    for key in (*_INPUTS, *sorted({*begun, *asked} - {"words", *_INPUTS})):
        old, new = begun.get(key), asked.get(key)
        if key in _INPUTS and isinstance(old, dict) and isinstance(new, dict):
            if not may_be_same(old, new):
                changed = f"the {key} changed since this search was begun: {_seen(old)} -> {_seen(new)}"
                raise ValueError(f"{folder}: {changed}; remove that folder to begin anew")
            old, new = old.get("read as"), new.get("read as")
        if old != new:
            go_on = resuming(_words(begun) or asked["words"])
            raise ValueError(f"{folder}: this search was begun with {key} {old}, not {new}; go on with it by: {go_on}")


def _seen(fingerprint: Mapping[str, Any]) -> str:
    sizes = fingerprint.get("sizes")
    size = sum(sizes) if isinstance(sizes, list) and all(isinstance(one, int) for one in sizes) else "?"
    return f"{size} bytes with hash {str(fingerprint.get('hash'))[:16]}"


def _write_line(file: int, line: Mapping[str, Any]) -> None:
    write_all(file, json.dumps(line).encode() + b"\n", None)
    os.fsync(file)
