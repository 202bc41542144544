"""What stands before the arrays of a file: safetensors' header, sealed.

    8 bytes     length of the text, little-endian
    text        JSON, with spaces at its end so that arrays begin at a multiple of 64 bytes of the file
      "__metadata__"    texts: format, version, seal, digests of all arrays, facts (the latter two JSON in their turn)
      NAME              dtype, shape, data_offsets, of each array

Format, version and seal come first, at fixed places. The seal is the SHA-256 of the length and the text, with zeros
in place of the seal, so nothing but the version is believed before it. Arrays too begin at multiples of 64 bytes.
Safetensors allows no holes, so what fills up is an array "padding/NUMBER" of zeros.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import numpy as np

from janelia_core.ml._index.stored.kinds import KINDS

VERSION: Final = 1
ALIGNMENT: Final = 64
MOST: Final = 1 << 24  # bytes of a header
PADDING: Final = "padding/"

_BEGIN: Final = b'{"__metadata__":{"format":"janelia_core.CenterIndex","version":"'
_SEALED: Final = re.compile(re.escape(_BEGIN) + rb'(\d{1,9})","seal":"([0-9a-f]{64})"')
LEAST: Final = 8 + len(_BEGIN) + 100  # bytes that tell whose file it is, of which version, with which seal
_METADATA: Final = {"format", "version", "seal", "digests", "facts"}
_NAMES: Final = re.compile(r"[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*")
_LONGEST: Final = 200  # characters of a name
_DIMENSIONS: Final = 8

Facts = dict[str, Any]
"""What JSON can tell."""


@dataclass(frozen=True)
class Section:
    """An array of a file.

    Attributes:
        name: Words of letters and digits, joined by slashes.
        kind: Of `KINDS`.
        shape: Of the array.
        begin: Bytes between the header and the array.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type that holds its numbers or their bits."""
        return np.dtype(KINDS[self.kind])

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def end(self) -> int:
        """Bytes between the header and what follows."""
        return self.begin + self.nbytes

    @property
    def is_padding(self) -> bool:
        """Whether it is there for its length alone."""
        return self.name.startswith(PADDING)


@dataclass(frozen=True)
class Header:
    """What a header tells.

    Attributes:
        sections: In their order, without gaps; padding among them.
        digests: Of all sections but padding.
        facts: Whatever else.
        length: Bytes before the first section.
    """

    sections: tuple[Section, ...]
    digests: Mapping[str, str]
    facts: Facts
    length: int

    @property
    def arrays(self) -> list[Section]:
        """The sections that are no padding."""
        return [section for section in self.sections if not section.is_padding]


def laid_out(arrays: Mapping[str, tuple[str, tuple[int, ...]]]) -> tuple[Section, ...]:
    """Return the sections for arrays of given kinds and shapes, padding among them.

    Raises:
        ValueError: A name is none that can be stored.
    """
    sections: list[Section] = []
    for name, (kind, shape) in arrays.items():
        if not _may_be_called(name) or name.startswith(PADDING):
            raise ValueError(f"{name!r} is no name for an array in a file")
        sections.append(Section(name, kind, shape, sections[-1].end if sections else 0))
        lacking = -sections[-1].end % ALIGNMENT
        if lacking:
            sections.append(Section(f"{PADDING}{len(sections)}", "U8", (lacking,), sections[-1].end))
    return tuple(sections)


def header_bytes(sections: tuple[Section, ...], digests: Mapping[str, str], facts: Facts) -> bytes:
    """Return all that stands before the arrays.

    Raises:
        TypeError, ValueError: JSON cannot tell the facts, or they are too many for a header.
    """
    metadata = {"format": "janelia_core.CenterIndex", "version": str(VERSION), "seal": "0" * 64}
    metadata |= {"digests": _json(dict(digests)), "facts": _json(facts)}
    tensors = {
        section.name: {
            "dtype": section.kind,
            "shape": list(section.shape),
            "data_offsets": [section.begin, section.end],
        }
        for section in sections
    }
    text = _json({"__metadata__": metadata, **tensors}).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    if len(text) > MOST:
        raise ValueError(f"facts and names take {len(text)} bytes in a file, more than the {MOST} that a header has")
    head = len(text).to_bytes(8, "little") + text
    return _with_seal(head, _seal(head))


def version_of(head: bytes) -> int | None:
    """Return the version of a file that begins so; None: it is no file of an index."""
    found = _SEALED.match(head, 8)
    return int(found[1]) if found else None


def sealed(head: bytes) -> bool:
    """Tell whether a whole header is as it was written."""
    found = _SEALED.match(head, 8)
    return found is not None and _seal(_with_seal(head, "0" * 64)) == found[2].decode()


def read_header(head: bytes, file_bytes: int) -> Header:
    """Return what a sealed header tells, which anyone may have sealed: all of it is checked.

    Args:
        head: Length and text.
        file_bytes: Size of the file, which the header must account for.

    Raises:
        ValueError: Something is not as `header_bytes` writes it; the reason in few words.
    """
    try:
        told = _parse(head[8:].decode("ascii"))
        metadata = told.pop("__metadata__")
        _expect(set(metadata) == _METADATA, "other metadata")
        digests, facts = _parse(metadata["digests"]), _parse(metadata["facts"])
        sections = tuple(sorted(map(_section, told.items()), key=lambda section: (section.begin, section.end)))
    except UnicodeDecodeError:
        raise ValueError("text that is not ASCII") from None
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"JSON of another form ({type(error).__name__})") from None
    _expect(len(head) % ALIGNMENT == 0, "arrays out of place")
    ends = [0, *(section.end for section in sections)]
    _expect(all(end == section.begin for end, section in zip(ends, sections, strict=False)), "gaps or overlaps")
    _expect(len(head) + ends[-1] == file_bytes, f"{len(head) + ends[-1]} bytes, and the file has {file_bytes}")
    _expect(all(s.is_padding or s.begin % ALIGNMENT == 0 for s in sections), "arrays out of place")
    _expect(all(s.kind == "U8" and s.nbytes < ALIGNMENT for s in sections if s.is_padding), "too much padding")
    _expect(set(digests) == {s.name for s in sections if not s.is_padding}, "digests of other arrays")
    _expect(all(isinstance(one, str) for one in digests.values()), "digests of another form")
    return Header(sections, digests, facts, len(head))


def _section(item: tuple[str, Any]) -> Section:
    name, told = item
    _expect(set(told) == {"dtype", "shape", "data_offsets"} and _may_be_called(name), "an array of another form")
    kind, shape, (begin, end) = told["dtype"], told["shape"], told["data_offsets"]
    _expect(kind in KINDS, "unknown numbers")
    _expect(isinstance(shape, list) and len(shape) <= _DIMENSIONS, "a shape of another form")
    _expect(all(type(one) is int and 0 <= one < 2**63 for one in (*shape, begin, end)), "sizes that are none")
    _expect(math.prod(one or 1 for one in shape) < 2**59, "a shape beyond all bounds")  # NumPy refuses it, if empty too
    section = Section(name, kind, tuple(shape), begin)
    _expect(section.end == end, "a shape of another size")
    return section


def _expect(right: bool, otherwise: str) -> None:
    if not right:
        raise ValueError(otherwise)


def _may_be_called(name: str) -> bool:
    return len(name) <= _LONGEST and _NAMES.fullmatch(name) is not None


def _seal(head: bytes) -> str:
    return sha256(head).hexdigest()


def _with_seal(head: bytes, seal: str) -> bytes:
    found = _SEALED.match(head, 8)
    assert found is not None
    return head[: found.start(2)] + seal.encode() + head[found.end(2) :]


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _parse(text: str) -> dict[str, Any]:
    """Return a JSON object; whatever a strict reader would not take is a ValueError."""
    try:
        found = json.loads(
            text, object_pairs_hook=_once_each, parse_constant=_refuse, parse_float=_finite, parse_int=_short
        )
    except json.JSONDecodeError:
        raise ValueError("text that is no JSON") from None
    _expect(isinstance(found, dict), "JSON of another form")
    return dict(found)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    _expect(len(found) == len(pairs), "a name that comes twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant}, which is no JSON")


def _finite(digits: str) -> float:
    _expect(math.isfinite(float(digits)), "a number beyond all bounds")
    return float(digits)


def _short(digits: str) -> int:
    _expect(len(digits) <= 40, "a number of too many digits")
    return int(digits)
