"""`.safetensors`: tensors by name; needs safetensors, of the extra `files`.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import json
from pathlib import Path

from janelia_core.extras import import_extra
from janelia_core.files.contract import Arrays, VectorFile
from janelia_core.files.errors import VectorFileError
from janelia_core.files.named import choose
from janelia_core.files.raw import RawVectors

NUMBERS = {
    "F16": "<f2",
    "BF16": "<i2",
    "F32": "<f4",
    "F64": "<f8",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
}


def open_safetensors(path: Path, name: str | None, preferred: tuple[str, ...]) -> VectorFile:
    """Open one tensor of shape (n, d): the library checks the file, then its rows are read where they stand."""
    library = import_extra("safetensors", "files")
    try:
        with library.safe_open(path, "numpy") as file:
            chosen = choose(path, list(file.keys()), name, preferred)
            part = file.get_slice(chosen)
            shape, kind = tuple(part.get_shape()), part.get_dtype()
    except (VectorFileError, FileNotFoundError):
        raise
    except Exception as error:  # safetensors_rust.SafetensorError derives from Exception itself
        raise VectorFileError(path, f"is no sound safetensors file: {error}") from error
    if len(shape) != 2 or kind not in NUMBERS:
        raise VectorFileError(path, f"{chosen} holds {kind} of shape {shape}, not real numbers (n, d)")
    return RawVectors(path, _offset(path, chosen), shape[0], shape[1], NUMBERS[kind], bfloat16=kind == "BF16")


def _offset(path: Path, name: str) -> int:
    """Return where a tensor begins, from the header that the library has checked: its length, then JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return 8 + length + int(header[name]["data_offsets"][0])


def write_safetensors(path: Path, arrays: Arrays) -> None:
    """Write every array; they are held in memory meanwhile."""
    library = import_extra("safetensors.torch", "files")
    library.save_file({name: rows.read(0, rows.n).clone() for name, rows in arrays.items()}, path)
