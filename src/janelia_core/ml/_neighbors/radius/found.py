"""RadiusNeighbors: what radius hands back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.face import checked_count
from janelia_core.ml._neighbors.found import Neighbors


class RadiusNeighbors(NamedTuple):
    """Neighbours within a radius, as many as there are: ragged.

    Row i, of x flattened over its leading dimensions, has `indices[offsets[i] : offsets[i + 1]]`.

    Attributes:
        offsets: (n_rows + 1,) int64, from 0 to p.
        indices: (p,) int64 row numbers of centres.
        distances: (p,) their distances.
    """

    offsets: Tensor
    indices: Tensor
    distances: Tensor

    @property
    def counts(self) -> Tensor:
        """How many neighbours each row has (n_rows,) int64."""
        return self.offsets.diff()

    @property
    def rows(self) -> Tensor:
        """The row of each pair (p,) int64, ascending."""
        places = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
        return torch.repeat_interleave(places, self.counts, output_size=len(self.indices))

    def padded(self, k: int | None = None) -> Neighbors:
        """Return the first k neighbours of each row, as `knn` would: -1 and inf where there are fewer.

        Args:
            k: How many; None: as many as the row with the most has.

        Returns:
            `Neighbors` of (n_rows, k).

        Example:
            >>> import torch
            >>> from janelia_core.ml import radius
            >>> radius(torch.tensor([[0.0], [9.0]]), torch.tensor([[0.5], [1.0]]), r=2.0).padded().indices
            tensor([[ 0,  1],
                    [-1, -1]])
        """
        counts = self.counts
        longest = int(counts.max()) if k is None and len(counts) else 0
        k = longest if k is None else checked_count("k", k)
        slots = torch.arange(k, device=counts.device)
        there = slots < counts[:, None]
        if len(self.indices) == 0:
            empty = self.indices.new_full((len(counts), k), -1)
            return Neighbors(self.distances.new_full((len(counts), k), torch.inf), empty)
        places = (self.offsets[:-1, None] + slots).clamp(max=len(self.indices) - 1)
        return Neighbors(
            torch.where(there, self.distances[places], torch.inf), self.indices[places].masked_fill(~there, -1)
        )


# Or torch.export could not save a program that returns it; torch has no public name for this.
torch.utils._pytree._register_namedtuple(
    RadiusNeighbors, serialized_type_name="janelia_core.ml.neighbors.RadiusNeighbors"
)
