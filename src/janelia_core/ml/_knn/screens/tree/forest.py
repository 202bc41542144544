"""Box trees over parts of the centres, as many as the memory asks for, one at a time; and the look before them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.screens.tree.cost import Look, Walk
from janelia_core.ml._runtime.workers import Workers

_SAMPLE = 1 << 14  # rows among which a look finds neighbours


class Tree(Protocol):
    """What a forest asks of a tree."""

    def order(self, x: Tensor, workers: Workers, is_ctrs: bool = False) -> Tensor:
        """Return the row numbers of x (r, d) in the order of the leaves."""
        ...

    def walk(self, x: Tensor, order: Tensor, n_rows: int, workers: Workers) -> Walk:
        """Tell what n_rows of the rows of x take."""
        ...


T = TypeVar("T", bound=Tree)


class Forest(Generic[T]):
    """Plants trees over every `parts`-th centre, the first with every 0-th: each is a fair sample of the whole.

    Args:
        plant: (centres, k, x, workers) -> a tree.
        x: The rows, all of `x.values`.
        ctrs: Finite centres.
        k: Neighbours asked for, at most as many as a tree has centres but in a first look.
        look: What to look at before; None: nothing, and there is one tree.
        workers: Threads that share the work.

    Attributes:
        tree: The tree that stands.
        part: Its centres.
        number: How many trees stood before this one.
        share: What the look told: the tree's work over the dense screen's; infinite, and no tree stands, where the
            dense screen will not fail and nothing else would make a tree pay.
        told: The same in words; empty without a look.

    Memory:
        One tree, the row numbers and copied values of its centres where there are several, and 13 bytes a row of
        those whose order is held (`Trees`).
    """

    def __init__(
        self,
        plant: Callable[[Tensor, int, Tensor, Workers], T],
        x: Points,
        ctrs: Points,
        k: int,
        look: Look | None,
        workers: Workers,
    ) -> None:
        self._plant, self._x, self._ctrs, self._k, self._workers = plant, x, ctrs, k, workers
        self.parts = look.trees.parts if look else 1
        self._rows = look.trees.rows if look else len(x)
        self.number, self.share, self.told = 0, 0.0, ""
        if look is not None and len(look.strides) != 1:
            crowd = workers.once(lambda: _crowding(x, ctrs, True))
            if crowd <= look.room and not look.strides:
                crowd = workers.once(lambda: _crowding(x, ctrs, False))
            look = look.facing(crowd)
            self.share, self.told = math.inf, "the dense screen's scores part a row's centres"
        for stride in look.strides if look else (1,):
            self._stand(0, stride)
            if self._rows >= len(x):
                self._order = self._ordered(0)
            if look is not None:
                order = self._order if self._rows >= len(x) else self._sampled()
                self.share = look.share(self.tree.walk(x.values, order, look.rows, workers), stride)
                self.told = look.told(self.share, stride)
            if self.share > 1.0:
                return

    def orders(self) -> Iterator[Tensor]:
        """Yield row numbers in the order in which they are best asked for, all of them for every tree in turn."""
        for number in range(self.parts):
            self.number = number
            if self.number > 0:
                self._stand(self.number, self.parts)
            for start in range(0, len(self._x), self._rows):
                if self.number > 0 or self._rows < len(self._x):
                    self._order = self._ordered(start)
                yield self._order

    def passed(self, numbers: Tensor) -> Tensor:
        """Tell which centres, by their row numbers, stood in trees before this one."""
        ctrs, positions = self._ctrs.subset, numbers
        if ctrs is not None:
            positions = torch.searchsorted(ctrs, numbers).clamp_(max=len(ctrs) - 1)
        stood = positions % self.parts < self.number
        return stood if ctrs is None else stood & (ctrs[positions] == numbers)

    def _stand(self, first: int, stride: int) -> None:
        """Let the tree over every stride-th centre, from `first` on, take the place of the one before."""
        self.__dict__.pop("tree", None)
        self.part = self._ctrs
        self._same = stride == 1 and self._ctrs.values is self._x.values and self._ctrs.subset is None
        if stride > 1:
            positions = torch.arange(first, len(self._ctrs), stride, device="cpu")
            self.part = replace(self._ctrs, subset=self._ctrs.row_numbers(positions))
        part = self.part
        # By a worker: torch's own threads, once woken, would spin beside the building.
        values = self._x.values if self._same else self._workers.once(lambda: part.block(0, len(part)))
        self.tree: T = self._plant(values, min(self._k, len(values)), self._x.values, self._workers)

    def _sampled(self) -> Tensor:
        """Return rows from all over x to look at, in the order of the leaves: x may be sorted."""
        step = -(-len(self._x) // min(self._rows, _SAMPLE))
        order = self.tree.order(self._x.values[::step], self._workers)
        return self._workers.once(lambda: order.mul_(step))

    def _ordered(self, start: int) -> Tensor:
        if self._same and self._rows >= len(self._x):
            return self.tree.order(self._x.values, self._workers, True)
        order = self.tree.order(self._x.values[start : start + self._rows], self._workers)
        return self._workers.once(lambda: order.add_(start))


def _crowding(x: Points, ctrs: Points, quick: bool) -> float:
    from janelia_core.ml._knn.screens.tree.crowding import crowding

    return crowding(x, ctrs, quick)
