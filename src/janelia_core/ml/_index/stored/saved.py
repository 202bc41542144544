"""What an index is made of, and the names under which its file holds that."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from torch import Tensor

from janelia_core.ml._index.stored.container import Contents, Path, read, write
from janelia_core.ml._index.stored.digests import of_centres
from janelia_core.ml._index.stored.errors import UPDATE, IndexFileError, shown, understood
from janelia_core.ml._index.stored.header import Facts
from janelia_core.ml._index.stored.kinds import (
    Array,
    array_to_tensor,
    dtype_named,
    kind_of_tensor,
    name_of,
    tensor_to_array,
)
from janelia_core.ml._runtime.arrays import I64

_CENTRES: Final = "centres"
_REMOVED: Final = "removed"
_FACTS: Final = {"dtype", "metric", "settings", "parts"}


@dataclass(frozen=True, eq=False)
class Piece:
    """Something that was prepared.

    Attributes:
        arrays: By names without slashes.
        facts: What JSON can tell.
    """

    arrays: Mapping[str, Array]
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Saved:
    """What an index is made of.

    Attributes:
        values: (n, d), the centres as stored.
        metric: Name of the metric.
        settings: What else the index was made with.
        removed: Row numbers of centres that are left out, in ascending order.
        parts: What was prepared, by names such as tree or dense/int8.
        fingerprint: Of the centres, which `load` tells: `digests.fingerprint` of the same values is the same.
    """

    values: Tensor
    metric: str
    settings: Facts = field(default_factory=dict)
    removed: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    parts: Mapping[str, Piece] = field(default_factory=dict)
    fingerprint: str | None = None


def save(path: Path, saved: Saved) -> None:
    """Write what an index is made of; the file appears when it is whole.

    Raises:
        OSError: The file cannot be written; what was there is as it was.
    """
    array = tensor_to_array(saved.values)
    kind = kind_of_tensor(saved.values)
    arrays = {_CENTRES: array, _REMOVED: np.asarray(saved.removed, np.int64)}
    for part, prepared in saved.parts.items():
        assert part not in arrays, f"{part} is a name of the index itself"
        for name, each in prepared.arrays.items():
            assert "/" not in name, "what is in front of the last slash is the part's name"
            arrays[f"{part}/{name}"] = each
    facts = {
        "dtype": name_of(saved.values.dtype),
        "metric": saved.metric,
        "settings": saved.settings,
        "parts": {part: prepared.facts for part, prepared in saved.parts.items()},
    }
    write(path, facts, arrays, {} if kind is None else {_CENTRES: kind})


def load(path: Path, *, mmap: bool = True, verify: bool = True, known: Container[str] | None = None) -> Saved:
    """Return what an index is made of.

    Args:
        path: Of the file.
        mmap: As `read` takes it.
        verify: As `read` takes it.
        known: Parts that can be understood; None: any.

    Raises:
        IndexFileError: The file is damaged, newer, or holds something else.
        OSError: It cannot be read.
    """
    contents = read(path, mmap=mmap, verify=verify)
    try:
        with understood(path, "the index"):
            return _saved(contents, known)
    except _Newer as error:
        raise IndexFileError(path, f"an index with {shown(str(error))}, unknown to this version", UPDATE) from None


class _Newer(Exception):
    """A name that nobody here knows."""


def _saved(contents: Contents, known: Container[str] | None) -> Saved:
    facts, arrays = contents.facts, dict(contents.arrays)
    if not facts.keys() <= _FACTS:
        raise _Newer(min(facts.keys() - _FACTS))
    values = array_to_tensor(arrays.pop(_CENTRES), dtype_named(facts["dtype"]))
    if values.ndim != 2:
        raise ValueError("centres that are no table")
    if not isinstance(facts["metric"], str) or not isinstance(facts["settings"], dict):
        raise TypeError("metric or settings")
    removed = arrays.pop(_REMOVED)
    _check_numbers(removed, len(values))
    parts = {name: Piece({}, told) for name, told in facts["parts"].items()}
    return Saved(
        values=values,
        metric=facts["metric"],
        settings=facts["settings"],
        removed=removed,
        parts=_sorted_out(arrays, parts, known),
        fingerprint=of_centres(values.dtype, (values.shape[0], values.shape[1]), contents.digests[_CENTRES]),
    )


def _sorted_out(arrays: dict[str, Array], parts: dict[str, Piece], known: Container[str] | None) -> dict[str, Piece]:
    """Return the parts with the arrays whose names begin with theirs."""
    of_parts: dict[str, dict[str, Any]] = {name: {} for name in parts}
    for name, array in arrays.items():
        part, _, own = name.rpartition("/")
        if part not in of_parts:
            raise _Newer(name)
        of_parts[part][own] = array
    for part, prepared in parts.items():
        if known is not None and part not in known:
            raise _Newer(part)
        if not isinstance(prepared.facts, dict):
            raise TypeError("facts of a part")
    return {part: Piece(of_parts[part], prepared.facts) for part, prepared in parts.items()}


def _check_numbers(removed: Array, n: int) -> None:
    if removed.ndim != 1 or removed.dtype != np.int64:
        raise ValueError("removed centres of another form")
    if len(removed) and not (removed[0] >= 0 and removed[-1] < n and (np.diff(removed) > 0).all()):
        raise ValueError("removed centres that are none")
