"""Where a file is to be put: links followed, names for what is unfinished, and whether it can be put there at all."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.registry import Where

_NAME_MOST = 255  # bytes of a name, where the system does not say
_MOUNTS = Path("/proc/self/mountinfo")
_OPEN_FILES = ("/dev/fd/", "/dev/std", "/proc/")  # but not /dev/shm, where files are


class Place(NamedTuple):
    """Where a file is to be put, by another file that is renamed.

    Attributes:
        said: As callers name it, for messages.
        target: The file that is replaced: where `said` is a link, what it leads to.
    """

    said: Path
    target: Path

    @classmethod
    def of(cls, where: Where) -> Place:
        """Follow links: they stay, and what they lead to is written, whether it is there yet or not."""
        said = Path(where)
        if "\0" in str(said):
            raise VectorFileError(repr(str(said)), "has a zero byte in its name")
        if not os.path.islink(said):
            return cls(said, said)
        target = Path(os.path.realpath(said))
        if os.path.islink(target):
            raise VectorFileError(said, "is a link that leads back to itself")
        if _is_open_file(said):
            raise VectorFileError(said, "is what the process has open; take - for standard output")
        return cls(said, target)

    @property
    def shown(self) -> str:
        """What it is called where room is short."""
        return str(self.said) if self.said.name == self.target.name else f"{self.said} as {self.target}"

    @property
    def beside(self) -> Path:
        """The file that is written first."""
        return _named_after(self.target, ".unfinished~")

    @property
    def unfinished(self) -> Path:
        """The folder of an unfinished search."""
        return _named_after(self.target, ".unfinished")

    def check(self) -> None:
        """Refuse a place that no file can be put in, so that it is known before the work.

        Raises:
            VectorFileError: There is no such folder, it cannot be written to, or something there cannot be replaced.
        """
        folder, target = self.target.absolute().parent, self.target
        led = "" if self.said == target else f"leads to {target}, which "
        if not folder.is_dir():
            raise VectorFileError(self.said, f"{led}is to be in a folder that does not exist")
        taken, most = len(os.fsencode(target.name)), _name_most(folder)
        if taken > most:
            raise VectorFileError(self.said, f"{led}has a name of {taken} bytes; that folder takes at most {most}")
        if target.is_dir():
            raise VectorFileError(self.said, f"{led}is a folder; name a file in it")
        if target.exists() and not target.is_file():
            told = "is no regular file, and would be replaced by one; take - for standard output"
            raise VectorFileError(self.said, f"{led}{told}")
        self._try(folder)
        if target.exists():
            self._check_replaceable(folder)

    def check_inputs(self, inputs: Iterable[Path]) -> None:
        """Refuse to replace an input, and to become one: within a folder, or by a name that a pattern would match."""
        for source in inputs:
            if _same(self.target, source):
                raise VectorFileError(self.said, "is an input of this search, which its answer would replace")
            if _same(self.beside, source):
                raise VectorFileError(
                    self.said, f"is written as {self.beside} first, which is an input of this search; rename that"
                )
            if source.is_dir() and source.resolve() in self.target.absolute().parent.resolve().joinpath("-").parents:
                raise VectorFileError(self.said, f"is to be within {source}, which is an input of this search")
            if any(mark in str(source) for mark in "*?[") and not source.exists():
                for path in (self.target, self.beside, self.unfinished):
                    if Path(os.path.abspath(path)).match(os.path.abspath(source)):
                        raise VectorFileError(self.said, f"would be one of {source} as {path.name}; take another name")

    def meets(self, other: Place) -> bool:
        """Tell whether two files would be written to one place."""
        own = (self.target, self.beside, self.unfinished)
        return any(_same(one, theirs) for one in own for theirs in (other.target, other.beside, other.unfinished))

    def _try(self, folder: Path) -> None:
        """Make the file that is written first, and remove it."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        try:
            os.close(os.open(self.beside, flags, 0o666))
            os.remove(self.beside)
        except FileExistsError:  # what an earlier run left; another one may be at work on it
            if self.beside.is_symlink() or not self.beside.is_file() or not os.access(self.beside, os.W_OK):
                raise VectorFileError(
                    self.said, f"is written as {self.beside} first, which is in the way; remove it"
                ) from None
        except OSError as error:
            raise VectorFileError(self.said, f"cannot be written to {folder}: {error.strerror}") from error

    def _check_replaceable(self, folder: Path) -> None:
        """Refuse what renaming would fail on at the end, or what its owner has protected."""
        if not os.access(self.target, os.W_OK):
            raise VectorFileError(self.said, "is there, and may not be written; change its permissions or remove it")
        if os.name != "posix":
            return
        around, there = folder.stat(), self.target.stat()
        if around.st_mode & stat.S_ISVTX and os.geteuid() not in (0, around.st_uid, there.st_uid):
            raise VectorFileError(self.said, f"belongs to somebody else, and only its owner may replace it in {folder}")
        if _is_mounted(self.target):
            raise VectorFileError(self.said, "is a mount, which cannot be replaced; mount its folder instead")


def _named_after(target: Path, ending: str) -> Path:
    """Return a name beside target, shortened where it would be too long; the same whenever it is asked for."""
    name = os.fsencode(target.name)
    room = _name_most(target.absolute().parent) - len(ending)
    if len(name) <= room:
        return target.with_name(target.name + ending)
    digest = hashlib.blake2b(name, digest_size=8).hexdigest()
    start = name[: max(0, min(64, room - len(digest) - 1))].decode(errors="ignore")
    return target.with_name(f"{start}~{digest}{ending}")


def _is_open_file(link: Path) -> bool:
    """Tell whether a link leads through those of the system to open files, /dev/stdout for one."""
    at = os.path.abspath(link)
    while os.path.islink(at):
        if at.startswith(_OPEN_FILES):
            return True
        at = os.path.abspath(os.path.join(os.path.dirname(at), os.readlink(at)))
    return False


def _name_most(folder: Path) -> int:
    try:
        most = os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return _NAME_MOST
    return most if most > 0 else _NAME_MOST


def _is_mounted(path: Path) -> bool:
    """Tell whether a file is mounted by itself, as containers do; renaming cannot replace it."""
    name = os.fsencode(os.path.realpath(path))
    for mark in (b"\\", b" ", b"\t", b"\n"):  # as the table writes them
        name = name.replace(mark, b"\\%03o" % ord(mark))
    try:
        return any(line.split(b" ")[4:5] == [name] for line in _MOUNTS.read_bytes().splitlines())
    except OSError:
        return False


def _same(one: Path, other: Path) -> bool:
    """Tell whether two paths lead to the same file, or would if it existed."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()
