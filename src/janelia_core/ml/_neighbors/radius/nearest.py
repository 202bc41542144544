"""The nearest of those within a radius: tables of k nearest, cut, of as many rows at a time as memory holds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.among import Among
from janelia_core.ml._knn.answers import without_own
from janelia_core.ml._knn.data.mask import Allowed
from janelia_core.ml._knn.radius.ragged import Collected, Ragged, of_table
from janelia_core.ml._knn.rows import parts
from janelia_core.ml._neighbors.indices import Settings, part_of, search, shifted
from janelia_core.ml._neighbors.radius.cut import cut

_PER_SLOT = 16  # bytes of a table and of what is cut from it


class Shown(NamedTuple):
    """Who may be answered.

    Attributes:
        subset: Ascending int64 numbers of the columns that may be answered; None: all.
        allowed: (rows, first, last) -> whether those rows may be answered columns first .. last - 1, or None.
        kept: What is kept of the centres, and who is left; None: nothing.
    """

    subset: Tensor | None
    allowed: Allowed | None
    kept: Among | None


def nearest_within(
    x: Tensor,
    ctrs: Tensor,
    r: Tensor,
    asked: Settings,
    shown: Shown,
    groups: Tensor | None,
    first_ctrs: Tensor | None,
) -> Ragged:
    """Return the nearest members of each row, as many as are asked for, nearest first.

    Args:
        x: (n, d).
        ctrs: (m, d).
        r: (n,) float64 radii.
        asked: How many of what, in how much memory.
        shown: Who may be answered.
        groups: (g, 5), see groups.py, or None.
        first_ctrs: See `Flat`.
    """
    widest = len(ctrs) if groups is None else int(torch.cat([groups[:, 3] - groups[:, 2], groups.new_ones(1)]).max())
    asked = asked._replace(k=max(1, min(asked.k, widest)))
    step = max(1, asked.max_memory // 2 // (_PER_SLOT * asked.k))
    if len(x) <= step:
        found = search(x, ctrs, asked, **shown._asdict(), groups=groups)
        return of_table(cut(x, ctrs, found, r, asked.metric, asked.max_memory, first_ctrs))
    out = Collected(len(x), len(ctrs), x.device, count_only=False)
    asked = asked._replace(max_memory=asked.max_memory // 2)
    for first, last, first_ctr, last_ctr, column in (
        [[0, len(x), 0, len(ctrs), 0]] if groups is None else groups.tolist()
    ):
        centres = ctrs if groups is None else ctrs[first_ctr:last_ctr]
        subset = part_of(shown.subset, column, column + last_ctr - first_ctr)
        for some in parts(last - first, step):
            here = slice(first + some.start, min(first + some.stop, last))
            part = Shown(subset, shifted(shown.allowed, here.start, column), shown.kept)
            found = _table(x[here], centres, asked, part, some.start)
            ragged = of_table(cut(x[here], centres, found, r[here], asked.metric, asked.max_memory, None))
            numbers = torch.arange(here.start, here.stop, device=x.device)
            out.put(numbers, ragged.offsets.diff(), ragged.indices + column)
    return out.finish()


def _table(x: Tensor, ctrs: Tensor, asked: Settings, shown: Shown, first: int) -> Tensor:
    """Return the k nearest (n, k) of rows, the first of which has the number `first` in its group."""
    if not asked.but_self:
        return search(x, ctrs, asked, **shown._asdict())
    found = search(x, ctrs, asked._replace(k=asked.k + 1, but_self=False), **shown._asdict())
    return without_own(found, torch.arange(first, first + len(x), device=found.device), asked.k)
