"""An index of a tensor that may change, as a parameter does: another one as soon as it has."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._index import few_rows
from janelia_core.ml._index.center_index import CenterIndex
from janelia_core.ml._index.versions import version_of
from janelia_core.ml._neighbors.found import Neighbors

_ALL = 1 << 14  # bytes of a table of which all rows are looked at
_LOOKED_AT = 64  # rows of others: each has to come from memory
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # NumPy has no bfloat16; NaN equals itself


class Watched:
    """Holds the index of some centres as long as they stay as they are.

    Torch counts the operations that change a tensor. What is done to its `.data`, or by NumPy, is not counted: so rows
    from all over are compared as well, all of them where they are few. That finds whatever changes most of them, as an
    average over batches does.
    """

    def __init__(self) -> None:
        self._held: tuple[CenterIndex, tuple[int, ...], _Look | None] | None = None

    def index(self, ctrs: Tensor, metric: str) -> CenterIndex:
        """Return an index of the centres as they are now."""
        held, version = self._held, version_of(ctrs)
        if held is not None and held[0].ctrs is ctrs and held[1] == version and _is_still(held[0], held[2], metric):
            return held[0]
        index = CenterIndex(ctrs, metric=metric)
        self._held = index, version, _Look(ctrs) if ctrs.device.type == "cpu" and ctrs.numel() else None
        return index

    def few(self, x: Tensor, ctrs: Tensor, k: int, metric: str) -> Neighbors | None:
        """Return what `CenterIndex.knn` does of a few plain rows, where something kept answers them at once."""
        if not few_rows.are_few(x, ctrs) or ctrs.is_inference():
            return None
        index = self.index(ctrs, metric)  # which has just been found to be of these centres
        return few_rows.answer(x, ctrs, index._among, k, metric)

    def forget(self) -> None:
        """Hold nothing."""
        self._held = None


def _is_still(index: CenterIndex, look: _Look | None, metric: str) -> bool:
    return index.metric == metric and (look is None or look.is_the_same())


class _Look:
    """Rows from all over some centres on a CPU, and what they were."""

    def __init__(self, ctrs: Tensor) -> None:
        rows = len(ctrs) if ctrs.nbytes <= _ALL else _LOOKED_AT
        there = ctrs.detach().resolve_neg()[:: -(-len(ctrs) // rows)]
        self._there = there.view(_BITS[there.element_size()]).numpy()
        self._before = self._there.tobytes()

    def is_the_same(self) -> bool:
        """Tell whether they are so still."""
        return self._there.tobytes() == self._before
