"""Members of rows put in order: by index, or nearest first, exactly, ties by index."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Ordered
from janelia_core.ml._knn.exact_order import ExactOrder
from janelia_core.ml._knn.radius.ragged import by_row_and_index
from janelia_core.ml._knn.radius.sources import Pairs
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.verify.verify import order as in_order


def by_index(pairs: Pairs, n_rows: int, n_ctrs: int) -> tuple[Tensor, Tensor]:
    """Return counts (n_rows,) and indices (p,), row after row, ascending."""
    counts = torch.bincount(pairs.rows, minlength=n_rows)
    return counts, by_row_and_index(pairs.rows, pairs.indices, n_rows, n_ctrs)


def nearest_first(pairs: Pairs, rows: Rows, exact: ExactOrder) -> tuple[Tensor, Tensor]:
    """Return counts (r,) and indices (p,), row after row, nearest first.

    Rows are padded to a power of two, together with those of about as many members: twice the room at most.
    """
    n_rows = len(rows.values)
    counts = torch.bincount(pairs.rows, minlength=n_rows)
    by_row = pairs.rows.sort(stable=True).indices
    starts = counts.cumsum(0) - counts
    pairs, out = pairs.pick(by_row), torch.empty_like(pairs.indices)
    width, most = 1, 2 * int(counts.max()) if len(out) else 0
    while width < most:
        here = ((counts <= width) & (counts > width // 2)).nonzero()[:, 0]
        if len(here):
            _put(out, here, width, pairs, counts[here], starts[here], rows, exact)
        width *= 2
    return counts, out


def _put(
    out: Tensor, here: Tensor, width: int, pairs: Pairs, counts: Tensor, starts: Tensor, rows: Rows, exact: ExactOrder
) -> None:
    """Write to out the members of the rows `here`, of which none has more than width."""
    slots = torch.arange(width, device=counts.device)
    there = slots < counts[:, None]
    places = (starts[:, None] + slots).clamp(max=len(out) - 1)
    found: Ordered = in_order(
        pairs.indices[places].masked_fill(~there, -1),
        pairs.value[places].masked_fill(~there, torch.nan),
        pairs.error[places].masked_fill(~there, 0.0),
    )
    out[places[there]] = replace(exact, k=width).settled(rows.pick(here), found)[there]
