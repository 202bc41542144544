"""How an array of a zarr folder is stored, read from its own metadata, versions 2 and 3.

The metadata of a stranger may name any codec, one that unpickles among them: here it chooses from a few, by name.

Source: https://zarr-specs.readthedocs.io, "v2/v2.0" and "v3/core".
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.binary.raw_memory import stored_numbers

CODECS = ("blosc", "gzip", "lz4", "zlib", "zstd")
_MOST_METADATA = 1 << 20
_MOST_FOLDERS = 4096  # that are looked through for arrays
_NUMBERS = re.compile(r"[<>|][fiu][1248]|(?:float|u?int)(?:8|16|32|64)")


class Stored(NamedTuple):
    """How an array is stored.

    Attributes:
        shape: (n, d) if it has two dimensions.
        chunks: Rows and columns of a chunk.
        dtype: Of its numbers.
        fill: Stands where a chunk is missing; None: none may be.
        transposed: Chunks are stored column by column.
        codec: By which chunks are packed, one of `CODECS`, or None.
        prefix: Begins the names of chunks.
        separator: Stands in them between row and column.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fill: float | None
    transposed: bool
    codec: str | None
    prefix: str
    separator: str

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk, unpacked."""
        return math.prod(self.chunks) * self.dtype.itemsize


def arrays_in(folder: Path) -> dict[str, Path]:
    """Return the arrays of a folder by name, those of its groups too: of two dimensions, where the folder says so."""
    found: dict[str, Path] = {}
    for looked, (path, folders, files) in enumerate(os.walk(folder)):
        if looked > _MOST_FOLDERS:
            raise VectorFileError(folder, f"holds more than {_MOST_FOLDERS} folders; name the array: {folder}::NAME")
        here = Path(path)
        if "zarr.json" in files or ".zarray" in files:
            said = metadata_of(here)
            if said.get("node_type") != "group":
                folders.clear()
                if len(said.get("shape", ())) == 2:
                    found[here.relative_to(folder).as_posix()] = here
    return found


def array_named(folder: Path, name: str | None) -> Path | None:
    """Return the array of that name, if there is one within the folder; no others are looked for."""
    parts = (name or "").split("/")
    found = folder.joinpath(*parts)
    if not name or not {"", ".", ".."}.isdisjoint(parts) or found.resolve() != folder.resolve().joinpath(*parts):
        return None
    return found if any((found / mark).is_file() for mark in ("zarr.json", ".zarray")) else None


def metadata_of(folder: Path) -> dict[str, Any]:
    """Return what an array's folder says about it."""
    path = next((path for name in ("zarr.json", ".zarray") if (path := folder / name).is_file()), None)
    if path is None:
        raise VectorFileError(folder, "is no zarr array: it has neither zarr.json nor .zarray")
    with path.open("rb") as file:
        text = file.read(_MOST_METADATA + 1)
    try:
        said = json.loads(text) if len(text) <= _MOST_METADATA else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("shape", []), list):
        raise VectorFileError(path, "is no metadata of a zarr array")
    return said


def stored_in(folder: Path) -> Stored:
    """Return how an array is stored.

    Raises:
        VectorFileError: In a way that is not read, which it names.
    """
    said = metadata_of(folder)
    try:
        found = _version_2(folder, said) if said.get("zarr_format") == 2 else _version_3(folder, said)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, VectorFileError):
            raise
        raise VectorFileError(folder, f"has no sound metadata: {type(error).__name__} {error}") from error
    sizes = [*found.shape, *found.chunks]
    if len(found.shape) != 2 or len(found.chunks) != 2 or not all(type(size) is int for size in sizes):
        raise VectorFileError(folder, f"holds an array of shape {found.shape}, not (n, d)")
    if min(found.shape) < 0 or min(found.chunks) < 1 or max(sizes) >= 1 << 62:
        raise VectorFileError(folder, f"has no sound metadata: shape {found.shape}, chunks {found.chunks}")
    return found


def _version_2(folder: Path, said: Mapping[str, Any]) -> Stored:
    if said.get("filters"):
        raise VectorFileError(folder, f"is stored with filters, {_names(said['filters'])}; write it without")
    codec = None if said.get("compressor") is None else _codec(folder, said["compressor"]["id"])
    return Stored(
        tuple(said["shape"]),
        tuple(said["chunks"]),
        _dtype(folder, said["dtype"]),
        _fill(said.get("fill_value")),
        said.get("order", "C") == "F",
        codec,
        "",
        "/" if said.get("dimension_separator") == "/" else ".",
    )


def _version_3(folder: Path, said: Mapping[str, Any]) -> Stored:
    if said.get("zarr_format") != 3 or said.get("node_type") != "array":
        raise VectorFileError(folder, "is no zarr array of version 2 or 3")
    if said["chunk_grid"]["name"] != "regular":
        raise VectorFileError(folder, f"has a chunk grid {said['chunk_grid']['name']!r}, which is not read")
    keys = said["chunk_key_encoding"]
    plain = keys["name"] == "v2"
    separator = keys.get("configuration", {}).get("separator", "." if plain else "/")
    separator = "/" if separator == "/" else "."
    codecs = [one if isinstance(one, dict) else {"name": one} for one in said["codecs"]]
    transposed, little, codec = False, True, None
    for one in codecs:
        name, more = one["name"], one.get("configuration") or {}
        if name == "transpose" and more.get("order") in ([1, 0], [0, 1], "C", "F"):
            transposed = more["order"] in ([1, 0], "F")
        elif name == "bytes":
            little = more.get("endian", "little") == "little"
        elif name == "sharding_indexed":
            raise VectorFileError(folder, "is stored in shards, which are not read; write it without shards")
        elif codec is None:
            codec = _codec(folder, name)
        else:
            raise VectorFileError(folder, f"is packed twice, by {_names(codecs)}; write it with one codec")
    return Stored(
        tuple(said["shape"]),
        tuple(said["chunk_grid"]["configuration"]["chunk_shape"]),
        _dtype(folder, said["data_type"]).newbyteorder("<" if little else ">"),
        _fill(said["fill_value"]),
        transposed,
        codec,
        "" if plain else f"c{separator}",
        separator,
    )


def _codec(folder: Path, name: Any) -> str:
    found = str(name).removeprefix("numcodecs.")
    if found not in CODECS:
        raise VectorFileError(folder, f"is packed by {found!r}; those that are read: {', '.join(CODECS)}, or none")
    return found


def _names(codecs: Any) -> str:
    found: Iterator[Any] = (one.get("id", one.get("name")) if isinstance(one, dict) else one for one in codecs)
    return ", ".join(map(str, found))


def _dtype(folder: Path, said: Any) -> np.dtype[np.generic]:
    if not isinstance(said, str) or not _NUMBERS.fullmatch(said):
        raise VectorFileError(folder, f"holds {said}, not real numbers of at most 64 bits")
    return stored_numbers(folder, said)


def _fill(said: Any) -> float | None:
    """Return the number that missing chunks are full of."""
    if said is None or isinstance(said, int):
        return said
    if isinstance(said, str) and said.startswith("0x"):
        raise ValueError(f"fill value {said}")
    return float(said)
