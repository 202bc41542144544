"""The largest scores of each row by maxima of groups: `topk` looks at each score, and takes several times longer.

The w largest lie in the w groups of largest maxima: what lies in another group is at most the maximum of any of these,
so that w scores are no less. Groups are every so many columns, whose maxima take one pass that vectorises; the groups
of largest maxima are found in the same way, and only their members are looked at one by one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.screens.portable.cost import GROUPED, are_grouped


def largest(scores: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return the `width` largest scores (r, width) of each row (r, b), in any order, and their columns, int64.

    NaN counts as larger than all else; of equal scores any may be returned. Rows follow each other without gaps.
    """
    n_rows, columns = scores.shape
    if not (scores.is_cpu and are_grouped(columns, width)):  # elsewhere each operation costs a launch
        top = scores.topk(width, dim=1, sorted=False)
        return top.values, top.indices
    groups = columns // GROUPED
    whole = groups * GROUPED
    maxima = torch.unflatten(scores[:, :whole], 1, (GROUPED, groups)).amax(dim=1)
    first = largest(maxima, width)[1].to(torch.int32)
    rows = _range(0, n_rows * columns, columns)[:, None]
    places = ((first + rows)[:, None, :] + _range(0, whole, groups)[:, None]).flatten(1)
    if whole < columns:
        places = torch.cat([places, rows + _range(whole, columns)], dim=1)
    members = scores.view(-1).index_select(0, places.view(-1)).view(places.shape)
    top = members.topk(width, dim=1, sorted=False)
    return top.values, (places.gather(1, top.indices) - rows).to(torch.int64)


def _range(first: int, end: int, step: int = 1) -> Tensor:
    return torch.arange(first, end, step, dtype=torch.int32, device="cpu")
