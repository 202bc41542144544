"""Kept centres in parts, some of them gone: each part lists its own members, which are put in order together."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.among import Among, Part
from janelia_core.ml._knn.radius.blocks import Put
from janelia_core.ml._knn.radius.find import RadiusSearch, find_among, find_within
from janelia_core.ml._knn.radius.ragged import Collected, Ragged, of_pairs

_PER_MEMBER = 64  # bytes of a member while parts are joined
_EXPECTED = 1 << 8  # members of a row for which there is room at first


def find_kept(x: Tensor, among: Among, r: Tensor, put: Put, asked: RadiusSearch) -> None:
    """Put all centres that are left within the radius of each row of x (n, d), as numbers of all centres."""
    only = among.parts[0] if len(among.parts) == 1 else None
    if only is not None and only.gone is None and only.first == 0:
        find_within(x, only.kept.centres.points.values, r, put, asked, subset=None, kept=only.kept)
        return
    room = asked.max_memory // 2 // _PER_MEMBER
    start, step = 0, max(1, room // _EXPECTED)
    others = asked._replace(settings=asked.settings._replace(but_self=False))  # rows are numbered anew in each step
    while start < len(x):
        some = slice(start, start + step)
        rows = x[some]

        def put_some(numbers: Tensor, counts: Tensor, indices: Tensor, first: int = start) -> None:
            put(numbers + first, counts, indices)

        own = start if asked.settings.but_self else None
        listed = _joined(len(rows), [_of_part(part, rows, r[some], others) for part in among.parts], own)
        find_among(rows, among.values.detach(), r[some], listed, put_some, others)
        start, found = start + len(rows), max(1, len(listed.indices))
        step = max(1, min(2 * step, room * len(rows) // (2 * found)))  # the next rows may have twice as many


def _of_part(part: Part, x: Tensor, r: Tensor, asked: RadiusSearch) -> tuple[Tensor, Tensor]:
    """Return the row and the number of each member (p,) that is left of a part, row after row."""
    values = part.kept.centres.points.values
    out = Collected(len(x), len(values), x.device, count_only=False)
    all_of_them = asked._replace(settings=asked.settings._replace(count_only=False, nearest=False, most=None))
    find_within(x, values, r, out.put, all_of_them, kept=part.kept)
    offsets, indices = out.finish()
    rows = torch.repeat_interleave(offsets.diff(), output_size=len(indices))
    if part.gone is not None:
        there = ~part.gone[indices]
        rows, indices = rows[there], indices[there]
    return rows, indices + part.first


def _joined(n: int, lists: list[tuple[Tensor, Tensor]], own: int | None) -> Ragged:
    """Return all members of n rows, but for the rows themselves where the first is the centre of number `own`."""
    row, indices = (torch.cat(part) for part in zip(*lists, strict=True))
    order = row.sort(stable=True).indices
    row, indices = row[order], indices[order]
    others = slice(None) if own is None else indices != row + own
    return of_pairs(row[others], indices[others], n)
