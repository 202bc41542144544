"""Which columns of a table are coordinates, by its schema and by what pandas and Hugging Face wrote beside it.

The schema is one of pyarrow, as `.parquet`, `.arrow` and `.feather` have it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Arrays, as_numpy, first, numpy_dtype
from janelia_core.files.formats.named import choose
from janelia_core.files.formats.raw import torch_dtype

_WRITTEN = 1 << 19
_INDEX = re.compile(r"|__index_level_\d+__|Unnamed: \d+(?:\.\d+)*")
_PERHAPS_INDEX = re.compile(
    r"index|level_\d+|_?id|idx|key|row[ _]?(?:nr|id|no|number|names?)?|.*_(?:id|idx)", re.IGNORECASE
)


class Columns(NamedTuple):
    """The columns that hold the coordinates.

    Attributes:
        names: Their names, one where they are lists.
        places: Their numbers among the columns of the table.
        types: Of their numbers, as pyarrow has them.
        dtype: That of all of them together.
        lists: They are one column of lists.
        length: Of the lists, where their type says it.
    """

    names: list[str]
    places: list[int]
    types: list[Any]
    dtype: np.dtype[Any]
    lists: bool
    length: int | None = None


def coordinates(path: Path, schema: Any, name: str | None, preferred: tuple[str, ...]) -> Columns:
    """Return the list column `name` (or the only one), or all columns of a table that has numeric ones only.

    Columns that its own metadata calls an index, or labels of classes, are none of them.
    """
    arrow = import_extra("pyarrow", "files")
    fields = list(enumerate(schema))
    lists = [field.name for _, field in fields if _is_list(arrow, plain(field.type))]
    if lists or name is not None:
        name = choose(path, lists, name, preferred)
        places = [at for at, field in fields if field.name == name]
    else:
        apart = _apart(path, schema)
        places = [at for at, field in fields if field.name not in apart]
    names = [schema.field(at).name for at in places]
    if not names or len(set(schema.names)) != len(schema.names):
        what = "several columns of one name" if names else "no column of coordinates"
        raise VectorFileError(path, f"has {what}; it holds: {', '.join(schema.names[:12]) or 'none'}")
    outer = [plain(schema.field(at).type) for at in places]
    types = [plain(kind.value_type) if lists else kind for kind in outer]
    dtypes = [_dtype(arrow, path, column, kind) for column, kind in zip(names, types, strict=True)]
    dtype = np.result_type(*dtypes)
    torch_dtype(path, dtype)
    length = outer[0].list_size if lists and arrow.types.is_fixed_size_list(outer[0]) else None
    return Columns(names, places, types, dtype, bool(lists), length)


def plain(kind: Any) -> Any:
    """Return how a type is stored: arrow.fixed_shape_tensor as lists."""
    return getattr(kind, "storage_type", kind)


def _is_list(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_list(kind) or arrow.types.is_large_list(kind) or arrow.types.is_fixed_size_list(kind))


def _dtype(arrow: Any, path: Path, name: str, kind: Any) -> np.dtype[Any]:
    if not (arrow.types.is_integer(kind) or arrow.types.is_floating(kind)):
        raise VectorFileError(path, f"column {name!r} holds {kind}, no numbers; take one of lists, or numbers only")
    dtype: np.dtype[Any] = arrow.array([], kind).to_numpy(zero_copy_only=False).dtype  # others may want pandas
    return dtype


def _apart(path: Path, schema: Any) -> set[str]:
    """Return the numeric columns that are no coordinates."""
    metadata = schema.metadata or {}
    index = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    labels = {name for name, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "ClassLabel"}
    apart = {column for column in index if isinstance(column, str)} | labels
    apart |= {column for column in schema.names if _INDEX.fullmatch(column)}
    for column in schema.names:
        if column not in apart and _PERHAPS_INDEX.fullmatch(column):
            reason = f"column {column!r} is an index by its name, not by the metadata"
            raise VectorFileError(path, f"{reason}; write the table without it, or give it another name")
    return apart


def exactly(path: Path, stored: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a column in the dtype common to all of them, which must not round its integers."""
    if stored.dtype == dtype:
        return stored
    values = stored.astype(dtype)
    if values.dtype.kind != stored.dtype.kind and not (values.astype(stored.dtype) == stored).all():
        raise VectorFileError(path, f"mixes floats with {stored.dtype} values that {dtype} cannot hold")
    return values


def too_large(path: Path, what: str, needed: int, memory: int) -> VectorFileError:
    """Return the error of what cannot be decoded within the memory."""
    reason = f"{what} takes {needed} bytes to decode, {memory} may be taken; give more with --max-memory"
    return VectorFileError(path, f"{reason}, or write the file in smaller pieces")


def written_batches(arrays: Arrays) -> tuple[Any, Iterator[Any]]:
    """Return a schema with a column of lists of fixed length for each array, and its rows, some at a time."""
    arrow = import_extra("pyarrow", "files")
    types = {name: arrow.list_(arrow.from_numpy_dtype(numpy_dtype(rows)), rows.d) for name, rows in arrays.items()}
    schema = arrow.schema(list(types.items()))
    n = first(arrays).n
    step = max(1, _WRITTEN // max(1, sum(rows.d * numpy_dtype(rows).itemsize for rows in arrays.values())))

    def batches() -> Iterator[Any]:
        for start in range(0, n, step):
            flat = [as_numpy(rows.read(start, min(start + step, n))).reshape(-1) for rows in arrays.values()]
            columns = [
                arrow.FixedSizeListArray.from_arrays(arrow.array(values), kind.list_size)
                for values, kind in zip(flat, types.values(), strict=True)
            ]
            yield arrow.record_batch(columns, schema=schema)

    return schema, batches()
