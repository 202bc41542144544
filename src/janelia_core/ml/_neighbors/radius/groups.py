"""A batch of searches within radii: small groups all together, the others one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.data.mask import Allowed
from janelia_core.ml._knn.radius.blocks import Put
from janelia_core.ml._knn.radius.find import RadiusSearch, find_in_groups, find_within
from janelia_core.ml._neighbors.indices import part_of, shifted

_SMALL = 1 << 14  # pairs of a group that are verified without further ado


def find_by_group(
    x: Tensor,
    ctrs: Tensor,
    r: Tensor,
    groups: Tensor,
    put: Put,
    asked: RadiusSearch,
    subset: Tensor | None,
    allowed: Allowed | None,
) -> None:
    """Put the members of all rows of groups (g, 5), see groups.py, as numbers of columns; other rows have none.

    Args:
        x: (n, d).
        ctrs: (m, d).
        r: (n,) float64 radii.
        groups: On any device.
        put: Where answers go.
        asked: What is asked.
        subset: Ascending int64 numbers of the columns that may be answered; None: all.
        allowed: (rows, first, last) -> whether those rows may be answered columns first .. last - 1, or None.
    """
    groups = groups.cpu()
    pairs = (groups[:, 1] - groups[:, 0]) * (groups[:, 3] - groups[:, 2])
    groups, pairs = groups[pairs > 0], pairs[pairs > 0]
    small = pairs <= (_SMALL if subset is None and allowed is None else 0)
    if bool(small.any()):
        some = groups[small]
        columns = some[:, 4] - some[:, 2]  # of a group's own centres, less their row numbers in ctrs
        firsts = some[:, 0].contiguous()

        def put_columns(rows: Tensor, counts: Tensor, indices: Tensor) -> None:
            group = torch.searchsorted(firsts.to(rows.device), rows, right=True) - 1
            by = columns.to(rows.device)[group].to(indices.device)
            if not asked.settings.count_only:  # else counts are all there is
                indices = indices + torch.repeat_interleave(by, counts, output_size=len(indices))
            put(rows, counts, indices)

        find_in_groups(x, ctrs, r, some, put_columns, asked)
    for first, last, first_ctr, last_ctr, column in groups[~small].tolist():
        rows = x[first:last]
        centres = rows if x is ctrs and (first, last) == (first_ctr, last_ctr) else ctrs[first_ctr:last_ctr]

        def put_shifted(numbers: Tensor, counts: Tensor, indices: Tensor, row: int = first, by: int = column) -> None:
            put(numbers + row, counts, indices + by)

        part, shown = part_of(subset, column, column + last_ctr - first_ctr), shifted(allowed, first, column)
        find_within(rows, centres, r[first:last], put_shifted, asked, subset=part, allowed=shown)
