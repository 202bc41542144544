"""Indices with more centres, or fewer: parts that stay as they are, and one that is new.

Added rows are a part of their own. Parts of about one size become one (J. Bentley and J. Saxe, "Decomposable searching
problems", 1980), so that there are few, and a row is prepared again only as often as the index doubles. Removed centres
stay where they are, marked as gone, until a quarter of their part is: then the part begins anew with those that are
left.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from janelia_core.ml._index.memory import default_keep
from janelia_core.ml._knn.among import Among, Part
from janelia_core.ml._knn.face import checked_values
from janelia_core.ml._knn.kept import Kept
from janelia_core.ml._ordinary import check_ordinary
from janelia_core.ml._runtime.locks import ForkSafeLock

_SMALL = 2  # times the new part's size: up to this, an older part becomes one with it
_LEAST = 4096  # centres up to which it does in any case: a part costs a search of its own
_GONE = 4  # one in so many gone, and a part begins anew
_AHEAD = 2  # one in so many rows set aside for more to come

_tails = ForkSafeLock()


class _Store:
    """Memory of centres, with room behind those in use, of which one index may take the next rows."""

    def __init__(self, values: Tensor, used: int) -> None:
        self.values, self.used = values, used

    @classmethod
    def of(cls, ctrs: Tensor, more: int) -> _Store:
        """Return a store that begins with a copy of the centres (n, d) and has room for more, and more to come."""
        n, d = ctrs.shape
        size = n + more + (n + more) // _AHEAD
        with torch.inference_mode(False):  # what that makes has no counter of versions
            values = torch.empty(size, d, dtype=ctrs.dtype, device=ctrs.device)
            values.data[:n] = ctrs.detach()
        return cls(values, n)

    def take(self, n: int, more: Tensor) -> Tensor | None:
        """Return the first n rows and more behind them, if nobody has taken that place yet and there is room."""
        with _tails:
            if self.used != n or n + len(more) > len(self.values):
                return None
            self.used += len(more)
        # All indices over this memory share its counter of versions, so that each sees what is changed through another.
        # `data` has a counter of its own: that new rows are written is no change to anyone.
        with torch.inference_mode(False):
            self.values.data[n : n + len(more)] = more.detach()
            return self.values[: n + len(more)]


def grown(ctrs: Tensor, among: Among, more: Tensor, max_memory: int | None) -> tuple[Tensor, Among]:
    """Return the centres and what is kept of them, with more rows."""
    _check_more(ctrs, more)
    if len(more) == 0:
        return ctrs, among
    n, store = len(ctrs), among.store if isinstance(among.store, _Store) else None
    if torch.is_grad_enabled() and (ctrs.requires_grad or more.requires_grad):
        store, values = None, torch.cat([ctrs, more])
    else:
        taken = None if store is None else store.take(n, more)
        if taken is None:
            store = _Store.of(ctrs, len(more))
            taken = store.take(n, more)
        assert taken is not None
        values = taken
    first, old = n, list(among.parts)
    gone = [torch.zeros(len(more), dtype=torch.bool, device=ctrs.device)]
    while old and old[-1].stop - old[-1].first <= max(_LEAST, _SMALL * (len(values) - first)):
        part = old.pop()
        first = part.first
        gone.insert(0, part.missing)
    left = (~torch.cat(gone)).nonzero()[:, 0]
    return values, Among(values, _sharing([*old, _part(values, first, len(values), left)], max_memory), store)


def shrunk(among: Among, numbers: Tensor, max_memory: int | None) -> Among:
    """Return what is kept of centres without some of them."""
    numbers = _checked_numbers(numbers, among.values)
    mark = torch.zeros(len(among.values), dtype=torch.bool, device=among.values.device)
    mark[numbers] = True
    parts: list[Part] = []
    for part in among.parts:
        before = part.missing
        gone = before | mark[part.first : part.stop]
        if torch.equal(gone, before):
            parts.append(part)
        elif _GONE * int((~gone).sum()) < (_GONE - 1) * len(part.kept.centres):
            parts.append(_part(among.values, part.first, part.stop, (~gone).nonzero()[:, 0]))
        else:
            parts.append(Part(part.first, part.kept, gone))
    return Among(among.values, _sharing(parts, max_memory), among.store)


def _part(values: Tensor, first: int, stop: int, left: Tensor) -> Part:
    """Return a new part: of the centres first .. stop - 1 those that are left, by their places among these."""
    here = values[first:stop]
    return Part(first, Kept(here, default_keep(here), None if len(left) == len(here) else left))


def _sharing(parts: list[Part], max_memory: int | None) -> tuple[Part, ...]:
    """Return the parts, each with its share of the bytes that may be kept in all; None: as much as is usual."""
    if max_memory is None:
        return tuple(parts)
    total = max(1, parts[-1].stop)
    shares = (max_memory * (part.stop - part.first) // total for part in parts)
    return tuple(replace(part, kept=part.kept.within(share)) for part, share in zip(parts, shares, strict=True))


def _check_more(ctrs: Tensor, more: Tensor) -> None:
    checked_values("more", more, "(n, d)")
    if more.ndim != 2 or more.shape[1] != ctrs.shape[1]:
        raise ValueError(f"more must have shape (n, {ctrs.shape[1]}), like ctrs, got {tuple(more.shape)}")
    if more.dtype != ctrs.dtype:
        raise TypeError(f"more must be of ctrs' dtype {ctrs.dtype}, got {more.dtype}; convert it first")
    if more.device != ctrs.device:
        raise ValueError(f"more must be on ctrs' device {ctrs.device}, got {more.device}")


def _checked_numbers(numbers: object, ctrs: Tensor) -> Tensor:
    """Return numbers as int64 on the centres' device, if there are such centres."""
    n_ctrs = len(ctrs)
    if not isinstance(numbers, Tensor):
        raise TypeError(
            f"numbers must be an integer torch.Tensor, got {type(numbers).__name__}; give torch.as_tensor(numbers)"
        )
    check_ordinary("numbers", numbers)
    if numbers.dtype.is_floating_point or numbers.dtype.is_complex or numbers.dtype == torch.bool:
        raise TypeError(
            f"numbers must be an integer torch.Tensor, got {numbers.dtype}; for a mask, mask.nonzero()[:, 0]"
        )
    if numbers.ndim != 1:
        raise ValueError(f"numbers must have shape (n,), got {tuple(numbers.shape)}")
    asked, numbers = numbers, numbers.to(device=ctrs.device, dtype=torch.int64)
    wrong = ((numbers < 0) | (numbers >= n_ctrs)).nonzero()[:, 0]
    if len(wrong):
        first = int(asked[int(wrong[0])])
        raise ValueError(f"numbers must be between 0 and {n_ctrs - 1}, row numbers of ctrs, got {first}")
    return numbers
