"""Centres that occur more than k times: of each, only the k of lowest number can be answered.

Dead centres, padding and repeated vectors crowd a screen's lists with ties that no bound can part. Whoever has k copies
of lower number is no one's answer, so a screen need not see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points, as_float64

T = TypeVar("T")
_SAMPLE = 1024
_COLUMNS = 8  # of which the codes of most points differ
_PER_CTR = 64  # bytes while codes are sorted
_FEWEST, _TIMES = 16, 8  # classes of k: up to 16, 128, 1024, ...


class Sifts(Generic[T]):
    """Centres sifted for several k, as few of them as serve all.

    Sifted for more than k, they hold all that can be answered with k and some copies beside; so what stands serves
    every k of a class. The first k is sifted for itself: a single search wants no more than it needs. Where no copy is
    spare for some k, none is for more.
    """

    def __init__(self) -> None:
        self._made: dict[int, T] = {}
        self._all = math.inf  # with so many wanted, no copy is spare

    def serving(self, k: int, sift: Callable[[int], T | None] | None) -> T | None:
        """Return centres that serve k, or None where all of them do.

        Args:
            k: How many are wanted.
            sift: Sifts for so many, if that may be done now; returns None where no copy is spare.
        """
        most = _FEWEST
        while most < k:
            most *= _TIMES
        fewest = min((made for made in self._made if k <= made <= most), default=None)
        if fewest is not None:
            return self._made[fewest]
        if sift is None or self._all <= most:
            return None
        wanted = most if self._made or self._all < math.inf else k
        found = sift(wanted)
        if found is None:
            self._all = wanted
        else:
            self._made[wanted] = found
        return found


def without_spare_copies(ctrs: Points, k: int, room: int) -> Points:
    """Return the centres without those that have k copies of lower number, if a sample shows copies at all.

    Args:
        ctrs: Centres on a CPU, whose values float64 holds.
        k: How many copies stay.
        room: Bytes that may be used: where they don't suffice, all centres stay.
    """
    n = len(ctrs)
    if not may_sift(ctrs, room) or _found_different(ctrs):
        return ctrs
    code, order = torch.cat([_codes(ctrs.block(*chunk)) for chunk in ctrs.chunks(4)]).sort(stable=True)
    is_first = torch.ones_like(code, dtype=torch.bool)
    is_first[1:] = code[1:] != code[:-1]
    first = is_first.nonzero()[:, 0][is_first.cumsum(0) - 1]  # where the group of each begins, itself by position
    spare = torch.arange(n, device="cpu") - first >= k
    crowded = torch.isin(first, first[spare]).nonzero()[:, 0]
    if len(crowded) == 0:
        return ctrs
    strangers = [part[_differ(ctrs, order[part], order[first[part]])] for part in torch.split(crowded, _step(ctrs))]
    spare &= ~torch.isin(first, first[torch.cat(strangers)])  # equal codes of unequal points: all stay
    return replace(ctrs, subset=ctrs.row_numbers(order[~spare].sort().values))


def may_sift(ctrs: Points, room: int) -> bool:
    """Tell whether so many bytes suffice to sift centres."""
    return _PER_CTR * len(ctrs) <= room


def _found_different(ctrs: Points) -> bool:
    """Tell whether all points of an even sample are different; one coordinate of most tells, or a few."""
    column = replace(ctrs, values=ctrs.values[:, ctrs.d // 2])
    some, few = column.block(0, len(ctrs), -(-len(ctrs) // min(_SAMPLE, ctrs.chunk))), -(-ctrs.d // _COLUMNS)
    ordered = (some if some.is_floating_point() else as_float64(some)).sort().values
    if bool((ordered[1:] != ordered[:-1]).all()):
        return True
    return any(_are_different(ctrs, each) for each in ((few, 1) if few > 1 else (1,)))


def _are_different(ctrs: Points, each: int) -> bool:
    """Tell whether every `each`-th coordinate gives all points of a sample codes of their own."""
    stride, step = -(-len(ctrs) // _SAMPLE), _step(ctrs) * (each if ctrs.subset is None else 1)
    starts = range(0, len(ctrs), stride * step)
    some = (ctrs.block(start, min(start + stride * step, len(ctrs)), stride)[:, ::each] for start in starts)
    codes = torch.cat([_codes(values) for values in some]).sort().values
    return bool((codes[1:] != codes[:-1]).all())


def _codes(values: Tensor) -> Tensor:
    """Return an int64 for each point (b, d), the same for equal ones."""
    words = _mixed((as_float64(values) + 0.0).view(torch.int64))  # -0 + 0 = +0
    factors = _mixed(torch.arange(1, words.shape[1] + 1, device="cpu")) | 1
    return (words * factors).sum(dim=1)


def _mixed(words: Tensor) -> Tensor:
    """Spread int64 over all their bits; products wrap around (G. L. Steele et al., OOPSLA 2014: splitmix64)."""
    for factor, shift in ((-0x40A7B892E31B1A47, 30), (-0x6B2FB644ECCEEE15, 27)):
        words = (words ^ (words >> shift)) * factor
    return words ^ (words >> 31)


def _differ(ctrs: Points, one: Tensor, other: Tensor) -> Tensor:
    """Tell which of two lists of positions name unequal points."""
    values = (ctrs.take(ctrs.row_numbers(positions)) for positions in (one, other))
    return (next(values) != next(values)).any(dim=1)


def _step(ctrs: Points) -> int:
    return max(1, ctrs.chunk // 4 // max(1, ctrs.d))
