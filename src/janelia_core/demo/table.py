"""The table of places and their nearest cities, in plain text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from janelia_core.demo.places import Places

PLACE_WIDTH, NEIGHBOUR_WIDTH = 25, 27


def neighbour_table(
    places: Places, shown: list[int], indices: NDArray[np.int64], km: NDArray[np.float64], width: int
) -> str:
    """Return a table of places with as many of their nearest cities as fit.

    Args:
        places: the places; an index of a centre is the index of its place.
        shown: the place of each row.
        indices: the nearest centres of these rows, int64 (k, len(shown)), nearest first.
        km: their great-circle distances, float64 (k, len(shown)).
        width: columns of the terminal.

    Returns:
        Lines of at most `width` columns, but always with one city.
    """
    columns = min(len(indices), max(1, (width - PLACE_WIDTH) // NEIGHBOUR_WIDTH))
    heads = ["nearest big city" if rank == 0 else f"no. {rank + 1}" for rank in range(columns)]
    lines = [_fit("place", PLACE_WIDTH) + "".join(_fit(head, NEIGHBOUR_WIDTH) for head in heads)]
    for row, place in enumerate(shown):
        cells = [
            _fit(places.names[indices[rank, row]], NEIGHBOUR_WIDTH - 12) + f"{km[rank, row]:8,.1f} km "
            for rank in range(columns)
        ]
        lines.append(_fit(places.label(place), PLACE_WIDTH) + "".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def _fit(text: str, width: int) -> str:
    """Return the text in exactly this many columns, the last of them blank."""
    return text.ljust(width) if len(text) < width else text[: width - 2] + "… "
