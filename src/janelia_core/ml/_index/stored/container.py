"""Arrays by name, and facts, in a file: written at once, read or mapped, and checked before anything is believed."""

from __future__ import annotations

import mmap as mapping
import os
import platform
import stat
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from janelia_core.ml._index.stored.digests import as_bytes, digests
from janelia_core.ml._index.stored.errors import UPDATE, WRONG_FILE, IndexFileError
from janelia_core.ml._index.stored.header import (
    ALIGNMENT,
    LEAST,
    MOST,
    VERSION,
    Facts,
    Header,
    Section,
    header_bytes,
    laid_out,
    read_header,
    sealed,
    version_of,
)
from janelia_core.ml._index.stored.kinds import Array, kind_of_array
from janelia_core.ml._index.stored.target import written
from janelia_core.positioned import read_at, write_all

Path = str | os.PathLike[str]

_LINUX: Final = 0x4000 if (sys.platform, platform.machine()) in [("linux", "x86_64"), ("linux", "aarch64")] else 0
_NO_RESERVE: Final[int] = getattr(mapping, "MAP_NORESERVE", _LINUX)  # which Python does not name everywhere
_SIGNS: Final = {
    b"\x93NUMPY": "an array of NumPy's",
    b"PK\x03\x04": "a zip archive, as torch.save and numpy.savez write it",
    b"\x80": "a pickle",
    b"\x89HDF": "an HDF5 file",
}


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
        facts: What JSON can tell.
        arrays: By name, in C order; of mapped files over the file's pages, and yet nothing that is written to them
            reaches the file.
        digests: Of the arrays' bytes, by name.
    """

    facts: Facts
    arrays: dict[str, Array]
    digests: Mapping[str, str]


def write(path: Path, facts: Facts, arrays: Mapping[str, Array], kinds: Mapping[str, str] | None = None) -> None:
    """Write facts and arrays; the file appears when it is whole.

    Args:
        path: Replaced if it exists; whoever has it open or mapped keeps the old one.
        facts: What JSON can tell, without infinities and NaN.
        arrays: By name, of any order and byte order.
        kinds: Of arrays that hold bits of numbers which NumPy lacks.

    Raises:
        OSError: The file cannot be written; what was there is as it was.
    """
    stored = {name: np.asarray(each, each.dtype.newbyteorder("<"), order="C") for name, each in arrays.items()}
    kinds = {name: kind_of_array(each) for name, each in stored.items()} | dict(kinds or {})
    sections = laid_out({name: (kinds[name], each.shape) for name, each in stored.items()})
    views = {name: as_bytes(each) for name, each in stored.items()}
    head = header_bytes(sections, dict(zip(views, digests(list(views.values())), strict=True)), facts)
    with written(path) as file:
        write_all(file.fileno(), head, 0)
        for section in sections:
            data = bytes(section.nbytes) if section.is_padding else views[section.name]
            write_all(file.fileno(), data, len(head) + section.begin)


def read(path: Path, *, mmap: bool = True, verify: bool = True) -> Contents:
    """Return what a file holds.

    Args:
        path: Of the file.
        mmap: Arrays are the file's own pages, which processes share; else they are read into memory. A mapped file
            may be replaced, as `write` does; whoever shortens it ends the processes that have it mapped.
        verify: Compare all arrays with their digests. Without, only the header is checked, and the size of the file:
            that takes no time, and is for files that nobody and nothing can have changed.

    Raises:
        IndexFileError: The file is damaged, newer, or holds something else.
        OSError: It cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # nobody waits for a pipe
    file = os.open(path, flags)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            found = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise IndexFileError(path, found, WRONG_FILE)
        header = _header(file, path, status.st_size)
        return (_mapped if mmap else _in_memory)(file, path, header, verify)
    finally:
        os.close(file)


def _header(file: int, path: Path, file_bytes: int) -> Header:
    """Return what the header tells, after all checks that need no array."""
    head = _bytes_at(file, 0, min(file_bytes, LEAST))
    version = version_of(head)
    if version is None:
        raise IndexFileError(path, _foreign(head), WRONG_FILE)
    if version != VERSION:
        raise IndexFileError(path, f"an index of format {version}; this version reads format {VERSION}", UPDATE)
    length = 8 + int.from_bytes(head[:8], "little")
    if length > min(file_bytes, 8 + MOST):
        raise IndexFileError(path, f"damaged: a header of {length} bytes in a file of {file_bytes}")
    head = _bytes_at(file, 0, length)
    if not sealed(head):
        raise IndexFileError(path, "damaged: the header is not as it was written")
    try:
        return read_header(head, file_bytes)
    except ValueError as error:
        raise IndexFileError(path, f"damaged: the header tells of {error}") from None


def _foreign(head: bytes) -> str:
    """Return what a file is that is none of an index."""
    if not head:
        return "an empty file"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MOST:
        return "a safetensors file, but none of an index, or a damaged one"
    known = [what for sign, what in _SIGNS.items() if head.startswith(sign)]
    return known[0] if known else f"no index, or a damaged one: it begins with the bytes {head[:8].hex(' ')}"


def _mapped(file: int, path: Path, header: Header, verify: bool) -> Contents:
    """Return arrays over pages of the file."""
    pages = _private_pages(file)
    if len(pages) < header.length + (header.sections[-1].end if header.sections else 0):
        raise _shortened(path)
    arrays = {section.name: _array(section, pages, header.length + section.begin) for section in header.sections}
    if verify:
        _compare(path, header, arrays, digests([as_bytes(arrays[section.name]) for section in header.arrays]))
    return _contents(header, arrays)


def _private_pages(file: int) -> mapping.mmap:
    """Map a file so that arrays over it can be written to, as kernels and torch want it, and the file cannot.

    No memory is set aside for copies of its pages, since nobody writes: a file may be larger than memory.
    """
    if os.name != "posix":
        return mapping.mmap(file, 0, access=mapping.ACCESS_COPY)
    return mapping.mmap(file, 0, flags=mapping.MAP_PRIVATE | _NO_RESERVE, prot=mapping.PROT_READ | mapping.PROT_WRITE)


def _in_memory(file: int, path: Path, header: Header, verify: bool) -> Contents:
    """Return arrays that the file was read into."""
    arrays = {section.name: _array(section, *_room(section.nbytes)) for section in header.sections}
    views = [as_bytes(arrays[section.name]) for section in header.sections]

    def fill(number: int, at: int, piece: memoryview) -> None:
        if read_at(file, piece, header.length + header.sections[number].begin + at) < len(piece):
            raise _shortened(path)

    found = digests(views, fill, verify)
    if verify:
        of_arrays = [one for one, section in zip(found, header.sections, strict=True) if not section.is_padding]
        _compare(path, header, arrays, of_arrays)
    return _contents(header, arrays)


def _array(section: Section, room: mapping.mmap | Array, at: int) -> Array:
    if section.nbytes == 0:
        return np.empty(section.shape, section.dtype)
    return np.ndarray(section.shape, section.dtype, buffer=room, offset=at)


def _room(n_bytes: int) -> tuple[Array, int]:
    """Return memory for so many bytes, and where in it they are aligned as in the file."""
    room = np.empty(n_bytes + ALIGNMENT, np.uint8)
    return room, -room.ctypes.data % ALIGNMENT


def _compare(path: Path, header: Header, arrays: Mapping[str, Array], found: list[str]) -> None:
    """Refuse a file whose arrays, or what is between them, are not as they were written."""
    for section, digest in zip(header.arrays, found, strict=True):
        if header.digests[section.name] != digest:
            raise IndexFileError(path, f"damaged: the array {section.name} is not as it was written")
    if any(arrays[section.name].any() for section in header.sections if section.is_padding):
        raise IndexFileError(path, "damaged: padding is not as it was written")


def _contents(header: Header, arrays: dict[str, Array]) -> Contents:
    return Contents(header.facts, {section.name: arrays[section.name] for section in header.arrays}, header.digests)


def _bytes_at(file: int, at: int, n_bytes: int) -> bytes:
    room = bytearray(n_bytes)
    return bytes(room[: read_at(file, memoryview(room), at)])


def _shortened(path: Path) -> IndexFileError:
    return IndexFileError(path, "damaged: it was shortened while it was read")
