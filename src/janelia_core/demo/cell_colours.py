"""A colouring of the centres in which neighbouring cells differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PALETTE = ("#ef6f6c", "#f7a072", "#f4d35e", "#9bc995", "#3fb8af", "#5aa9e6", "#8e7dbe", "#e7a1c4")


def colour_cells(indices: NDArray[np.int64], n_ctrs: int) -> NDArray[np.int64]:
    """Give every centre a colour that its neighbours do not have.

    Two centres are neighbours where some place has them as its two nearest. The centres choose in turn: of
    the colours that no neighbour has taken, the one used least so far.

    Args:
        indices: each place's nearest centres, int64 (k, n), nearest first; k = 1 tells of no neighbours.
        n_ctrs: number of centres.

    Returns:
        The number of each centre's colour in PALETTE, int64 (n_ctrs).
    """
    neighbours: list[set[int]] = [set() for _ in range(n_ctrs)]
    for a, b in np.unique(indices[:2].T, axis=0).tolist() if len(indices) > 1 else []:
        neighbours[a].add(b)
        neighbours[b].add(a)
    colours = np.full(n_ctrs, -1, dtype=np.int64)
    used = np.zeros(len(PALETTE))
    for centre in range(n_ctrs):
        taken = [colours[other] for other in neighbours[centre] if colours[other] >= 0]
        cost = used.copy()
        cost[taken] += n_ctrs  # so a colour is repeated only where the neighbours have them all
        colours[centre] = np.argmin(cost)
        used[colours[centre]] += 1
    return colours
