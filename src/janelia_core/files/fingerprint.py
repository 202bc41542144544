"""How the inputs of a search are known again: their files by state and by sampled content, their rows by `blocks`.

A file whose state (size, times, inode) is what it was is the same file. One that was touched, copied or mounted
elsewhere may be: the sampled pages say quickly that it is another one, the digests of all blocks that were read
(`blocks`) decide. No path takes part, so that one machine knows again what another has begun.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PAGES = 64  # of a file,
_PAGES_OF_ALL = 1024  # and of an input of very many files, which has two pages of each read at least
_PAGE = 4096
_READ = 1 << 20

State = list[int]
"""Size, time of change of the content, time of change of anything (0 where the system has none), and inode."""


def states(files: Sequence[Path]) -> list[State]:
    """Return by what is seen, without reading, that nobody wrote to any of the files."""
    return [
        [found.st_size, found.st_mtime_ns, found.st_ctime_ns if os.name == "posix" else 0, found.st_ino]
        for found in map(os.stat, files)
    ]


def fingerprint(files: Sequence[Path]) -> dict[str, Any]:
    """Return the states of the files, their sizes, and a hash of pages spread over each, first and last among them."""
    pages = max(2, min(_PAGES, _PAGES_OF_ALL // max(1, len(files))))
    digest = hashlib.blake2b(digest_size=16)
    found = states(files)
    for path, (size, *_) in zip(files, found, strict=True):
        if not path.is_file():
            continue  # a folder that is listed beside its files
        last = max(0, size - _PAGE)
        with path.open("rb") as file:
            for i in range(pages):
                file.seek(last * i // (pages - 1))
                digest.update(file.read(_PAGE))
    return {
        "sizes": [size for path, (size, *_) in zip(files, found, strict=True) if path.is_file()],
        "hash": digest.hexdigest(),
        "states": found,
    }


def content(path: Path) -> str:
    """Return a hash of a whole file, or of all files of a folder with their names: of what is read without blocks."""
    digest = hashlib.blake2b(digest_size=16)
    for part in sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]:
        digest.update(os.fsencode(part.relative_to(path)) + b"\0")
        with part.open("rb") as file:
            while read := file.read(_READ):
                digest.update(read)
    return digest.hexdigest()


def may_be_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two fingerprints can be of the same content."""
    return one.get("sizes") == other.get("sizes") and one.get("hash") == other.get("hash")


def untouched(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two fingerprints are of the same files, which nobody wrote to in between."""
    return may_be_same(one, other) and one.get("states") == other.get("states")
