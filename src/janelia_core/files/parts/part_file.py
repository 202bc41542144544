"""NAME.part: what a search of some of the centres found, for a merge.

    16 bytes    "janelia-knn part"
    8 bytes     length of the header, little-endian
    header      JSON (`header`)
    16 bytes    BLAKE2b of all before
    rows        each as `record` says
    digests     16 bytes of BLAKE2b for every 64 KiB of rows or so, in their order

Rows and digests stand at fixed places: a range of rows is read alone, and is known to be what was written.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from janelia_core.durable import replaced
from janelia_core.files.answer.place import Place
from janelia_core.files.errors import VectorFileError
from janelia_core.files.fingerprint import State, states
from janelia_core.files.parts.header import Header
from janelia_core.positioned import read_at

MAGIC = b"janelia-knn part"
_LENGTH = struct.Struct("<Q")
_START = len(MAGIC) + _LENGTH.size
_DIGEST = 16  # bytes
_DIGESTED = 1 << 16  # bytes of rows, about
_MOST_HEADER = 1 << 24
_CHUNK = 1 << 20


def write_part(place: Place, header: Header, lists: Path) -> None:
    """Write a part's file from rows that are packed in a file, beside its place, and rename it."""
    told = header.packed()
    head = MAGIC + _LENGTH.pack(len(told)) + told
    each = _rows_digested(header) * header.record.bytes
    digests = []
    with replaced(place.target, place.beside), place.beside.open("wb") as out, lists.open("rb") as rows:
        out.write(head + _digest(head))
        left = header.rows[1] * header.record.bytes
        while left:
            block = rows.read(min(left, each))
            digests.append(_digest(block))
            out.write(block)
            left -= len(block)
        out.write(b"".join(digests))


def part_bytes(rows: int, record_bytes: int) -> int:
    """Return what a part's file takes, its header apart."""
    return rows * record_bytes * (_DIGESTED + _DIGEST) // _DIGESTED


class PartFile:
    """A part's file, of which nothing is open but while it is read.

    Attributes:
        path: The file.
        header: What it says of itself.
        identity: What tells it from all others.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            raise VectorFileError(path, "is a folder, no part of a search")
        with path.open("rb") as file:
            start = file.read(_START)
            if not start.startswith(MAGIC):
                raise VectorFileError(path, "is no part of a search; janelia-knn search --part i/n writes those")
            length = _LENGTH.unpack(start[len(MAGIC) :])[0] if len(start) == _START else _MOST_HEADER + 1
            told = file.read(length) if length <= _MOST_HEADER else b""
            if len(told) < length or file.read(_DIGEST) != _digest(start + told):
                raise VectorFileError(path, "is damaged: its header is not what was written")
            self.header = Header.read(path, told)
            self._rows_at = file.tell()
            self._digests_at = self._rows_at + self.header.rows[1] * self.header.record.bytes
            blocks = -(-self.header.rows[1] // _rows_digested(self.header))
            size, wanted = os.fstat(file.fileno()).st_size, self._digests_at + blocks * _DIGEST
            if size != wanted:
                raise VectorFileError(path, f"is damaged: it has {size} bytes, where {wanted} were written")
            self.identity = self._identity(file, start + told)
        self._state: State = states([path])[0]

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return rows start .. stop - 1, counted from the first of the file, as `Record.dtype`.

        Raises:
            VectorFileError: They are not what was written, or the file was replaced since it was opened.
        """
        each, record = _rows_digested(self.header), self.header.record
        first, last = start // each, -(-stop // each)
        rows = np.empty(min(last * each, self.header.rows[1]) - first * each, record.dtype)
        digests = bytearray((last - first) * _DIGEST)
        file = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            if states([self.path])[0] != self._state:
                raise VectorFileError(self.path, "was changed while it was merged")
            raw = rows.view(np.uint8).data
            got = read_at(file, raw, self._rows_at + first * each * record.bytes)
            got += read_at(file, memoryview(digests), self._digests_at + first * _DIGEST)
        finally:
            os.close(file)
        if got < len(raw) + len(digests):
            raise VectorFileError(self.path, "has become shorter while it was read")
        for i in range(last - first):
            block = raw[i * each * record.bytes : (i + 1) * each * record.bytes]
            if _digest(block) != digests[i * _DIGEST : (i + 1) * _DIGEST]:
                at = self.header.rows[0] + (first + i) * each
                raise VectorFileError(self.path, f"is damaged: rows from {at} on are not what was written")
        return rows[start - first * each : stop - first * each]

    def _identity(self, file: Any, head: bytes) -> str:
        digest = hashlib.blake2b(head, digest_size=_DIGEST)
        file.seek(self._digests_at)
        while block := file.read(_CHUNK):
            digest.update(block)
        return digest.hexdigest()


def _rows_digested(header: Header) -> int:
    return max(1, _DIGESTED // header.record.bytes)


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()
