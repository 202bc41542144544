"""An index as a file holds it, and back."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._index.stored.errors import understood
from janelia_core.ml._index.stored.saved import Piece, Saved
from janelia_core.ml._knn.among import Among, Part
from janelia_core.ml._knn.kept import Kept
from janelia_core.ml._knn.metrics.registry import METRICS

_PART = "part"

Index = tuple[Tensor, str, int | None, Among]
"""The centres, the metric, the bytes that may be kept, and what is kept of the centres."""


def taken_apart(ctrs: Tensor, metric: str, max_memory: int | None, among: Among) -> Saved:
    """Return what an index is made of, and all that it keeps."""
    pieces: dict[str, Piece] = {}
    for i, part in enumerate(among.parts):
        facts = {"first": part.first, "stop": part.stop, "keep": part.kept.max_memory}
        own = {"subset": part.kept.centres.points.subset, "gone": part.gone}
        pieces[f"{i}/{_PART}"] = Piece({name: t.cpu().numpy() for name, t in own.items() if t is not None}, facts)
        if ctrs.device.type == "cpu":
            pieces |= {f"{i}/{name}": Piece(arrays, dict(told)) for name, (arrays, told) in part.kept.stored().items()}
    gone = torch.cat([part.missing for part in among.parts])
    settings = {"max_memory": max_memory, "parts": len(among.parts)}
    return Saved(ctrs, metric, settings, gone.nonzero()[:, 0].cpu().numpy(), pieces)


def for_pickle(saved: Saved) -> Saved:
    """Return the same without what else lies in the memory of the centres: a pickle would hold all of it."""
    values = saved.values
    if values.untyped_storage().nbytes() > 2 * values.nbytes:
        values = values.detach().clone()
    return replace(saved, values=values)


def for_file(saved: Saved) -> Saved:
    """Return the same with centres that a file can hold."""
    return replace(saved, values=saved.values.detach().cpu())


def put_together(saved: Saved, path: str | os.PathLike[str] = "the pickled index") -> Index:
    """Return the index that `taken_apart` took apart.

    Raises:
        IndexFileError: What is said of the parts does not fit the centres.
    """
    with understood(path, "the index"):
        max_memory, count = saved.settings["max_memory"], saved.settings["parts"]
        if not (max_memory is None or _is_count(max_memory)) or not _is_count(count) or saved.metric not in METRICS:
            raise ValueError("settings of another kind")
        parts: list[Part] = []
        for i in range(count):
            parts.append(_part(saved, i, parts[-1].stop if parts else 0))
        among = Among(saved.values, tuple(parts))
        if not parts or parts[-1].stop != len(saved.values) or not _is_left(among, saved.removed):
            raise ValueError("parts of other centres")
    return saved.values, saved.metric, max_memory, among


def _part(saved: Saved, number: int, at: int) -> Part:
    own, n_ctrs, device = saved.parts[f"{number}/{_PART}"], len(saved.values), saved.values.device
    first, stop, keep = (own.facts[name] for name in ("first", "stop", "keep"))
    if not (all(map(_is_count, (first, stop, keep))) and first == at <= stop <= n_ctrs):
        raise ValueError("a part that is none")
    subset, gone = (own.arrays.get(name) for name in ("subset", "gone"))
    if subset is not None and not (subset.dtype == np.int64 and subset.ndim == 1 and _ascend(subset, stop - first)):
        raise ValueError("a part of centres that there are not")
    if gone is not None and not (gone.dtype == np.bool_ and gone.shape == (stop - first,)):
        raise ValueError("removed centres that there are not")
    here, there = (None if array is None else torch.from_numpy(array).to(device) for array in (subset, gone))
    kept, prefix = Kept(saved.values[first:stop], keep, here), f"{number}/"
    pieces = {name.removeprefix(prefix): piece for name, piece in saved.parts.items() if name.startswith(prefix)}
    kept.restore({name: (piece.arrays, piece.facts) for name, piece in pieces.items() if name != _PART})
    return Part(first, kept, there)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _ascend(numbers: Any, size: int) -> bool:
    inside = len(numbers) == 0 or (numbers[0] >= 0 and numbers[-1] < size)
    return bool(inside and (np.diff(numbers) > 0).all())


def _is_left(among: Among, removed: Any) -> bool:
    """Tell whether all but the removed are left."""
    if among.left is None:
        return len(removed) == 0
    left = among.left.cpu().numpy()
    return len(left) + len(removed) == len(among.values) and not np.isin(left, removed).any()
