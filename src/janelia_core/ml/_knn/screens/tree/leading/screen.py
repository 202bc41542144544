"""Candidates by images of points: what lies beyond a list of the nearest images is farther than they say.

A tree over the images (`data.leading`) of the centres tells, for the image of a row, E <= |q^_x - q^_c|^2 of all that
it does not list (`tree.screen`); no centre is dropped from it, since points whose images are alike may differ. So by
the bound of `data.leading`

    D >= (1 - eta) max(0, sqrt(E) - e_x - e_c)^2,

with the largest e_c of all centres. Lists reach somewhat beyond the k-th image: by what true distances, of rows that a
look has seen, exceeded those of images.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.leading import Leading
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._knn.screens.tree.screen import TreeScreen
from janelia_core.ml._knn.screens.tree.walk import Wanted


class Images(TreeScreen):
    """Lists the nearest images, and those that are little farther.

    Args:
        tree: Over images of centres.
        k: How many are wanted.
        width: How many are listed at most, k at least.
        gap: How much larger squared distances are walked than that of the k-th.
    """

    def __init__(self, tree: BoxTree, k: int, width: int, gap: float) -> None:
        super().__init__(tree, k)
        self._width, self._gap = width, gap

    @property
    def _wanted(self) -> Wanted:
        gap = min(self._gap + 4.0 * self._absolute, float(np.finfo(np.float32).max))
        return Wanted(
            self.k, min(self._width, self.tree.live), False, self._way, (np.float32(1.0 + 2.0**-10), np.float32(gap))
        )


class LeadingScreen:
    """Shortlists by images; thread safe.

    Args:
        leading: The directions.
        images: Who lists images.
        off: How far images of centres may be off.
        ctrs: The centres.
        known: Images of all rows by their numbers, and how far one of them may be off; None: each is made when asked.
    """

    def __init__(
        self, leading: Leading, images: Images, off: float, ctrs: Points, known: tuple[Tensor, float] | None = None
    ) -> None:
        self.leading, self.images, self.off, self.ctrs, self._known = leading, images, off, ctrs, known

    def candidates(self, rows: Rows) -> Candidates:
        """Shortlist the centres for a block of finite rows."""
        if self._known is None:
            images, off = self.leading.of(rows.values)
        else:
            images, off = self._known[0][rows.numbers], torch.tensor(self._known[1], dtype=torch.float64, device="cpu")
        found = self.images.candidates(Rows(images, rows.numbers))
        excluded = self.leading.at_least(found.excluded, off + self.off)
        return Candidates(self.ctrs.row_numbers(found.indices), excluded)
