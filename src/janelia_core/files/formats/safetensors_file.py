"""`.safetensors`: tensors by name; needs safetensors, of the extra `files`.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import OPENING, Arrays, Format, VectorFile, stored_blocks
from janelia_core.files.formats.named import choose
from janelia_core.files.formats.raw import TORCH_DTYPES, RawVectors

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
_PARSED = 32  # bytes that a byte of the header takes, parsed
KINDS = {TORCH_DTYPES[kind.lstrip("<")]: name for name, kind in NUMBERS.items() if name != "BF16"}
KINDS[torch.bfloat16] = "BF16"


def open_safetensors(path: Path, name: str | None, preferred: tuple[str, ...], opening: int = OPENING) -> VectorFile:
    """Open one tensor of shape (n, d): the library checks the file, then its rows are read where they stand."""
    library = import_extra("safetensors", "files")
    with path.open("rb") as start:
        length = int.from_bytes(start.read(8), "little")
    if length > opening // _PARSED and length <= path.stat().st_size:
        raise VectorFileError(path, f"has a header of {length} bytes; {opening // _PARSED} are at hand for it", 0)
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
    """Write every array block by block, which the library cannot: widest numbers first, as it orders them."""
    header: dict[str, Any] = {}
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    end = 0
    for name, rows in ordered:
        begin, end = end, end + rows.n * rows.d * rows.dtype.itemsize
        header[name] = {"dtype": KINDS[rows.dtype], "shape": [rows.n, rows.d], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, rows in ordered:
            for block in stored_blocks(rows):
                file.write(block.detach().contiguous().view(torch.uint8).numpy().data)


SAFETENSORS = Format(open_safetensors, write_safetensors, several=True, options=("opening",))
