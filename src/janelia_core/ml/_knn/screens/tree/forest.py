"""Box trees over parts of the centres, as many as the memory asks for, one at a time; and the look before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.contract import Candidates, Members
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._knn.screens.tree.cost import MOST_K, Look, Walk
from janelia_core.ml._knn.screens.tree.few import FewRows
from janelia_core.ml._knn.screens.tree.few_wide import FewWide
from janelia_core.ml._knn.screens.tree.planted import BoxTree, copies_for
from janelia_core.ml._knn.screens.tree.screen import TreeScreen
from janelia_core.ml._knn.screens.tree.within import TreeWithin
from janelia_core.ml._runtime.locks import ForkSafeLock
from janelia_core.ml._runtime.workers import Workers

_SAMPLE = 1 << 14  # rows among which a look finds neighbours
_MANY = 16  # times the rows of a look: it costs little beside them


class PreparedTrees:
    """Trees over finite centres, for any number of searches: planted when rows first want them, and they stay.

    One tree serves every k, unless copies were dropped that some k may ask for (`BoxTree.serves`): then there is one
    for each class of k (`copies_for`) that is asked for. The first is planted for the k that comes first, as if no
    other would come.

    Args:
        ctrs: Finite centres.
        form: `Metric.form`, which no tree depends on.
        whole: Trees over all of them that stand already.

    Attributes:
        walks: What rows took in a tree over all of them when a search last looked, by k.
    """

    def __init__(self, ctrs: Points, form: int = DISTANCE, whole: tuple[BoxTree, ...] = ()) -> None:
        self.ctrs, self._form = ctrs, form
        self.walks: dict[int, Walk] = {}
        self._whole = whole
        self._complete: BoxTree | None = None  # where copies were dropped from all others
        self._few: tuple[BoxTree, FewRows | None] | None = None  # of the tree that was asked last
        self._lock = ForkSafeLock()

    @property
    def nbytes(self) -> int:
        """What is held."""
        return sum(tree.nbytes for tree in (*self._whole, self._complete) if tree is not None)

    @property
    def stands(self) -> bool:
        """Whether a tree over all centres does."""
        return bool(self._whole)

    @property
    def trees(self) -> tuple[BoxTree, ...]:
        """Those over all centres that stand."""
        return self._whole

    def standing(self, k: int) -> BoxTree | None:
        """Return the tree over all centres that serves k, if one was planted."""
        return next((tree for tree in self._whole if tree.serves(k)), None)

    def few(self, k: int, wide: bool = False) -> FewRows | FewWide | None:
        """Return who answers few rows at once, of float32 or, wide, of float64, where a tree stands that serves k."""
        tree = self.standing(k) if k <= min(MOST_K, len(self.ctrs)) else None
        if tree is None:
            return None
        if wide:
            return FewWide.of(tree, k, self._form)
        known = self._few
        if known is None or known[0] is not tree:
            known = self._few = tree, FewRows.of(tree, self._form)  # whoever comes at the same time finds the same
        return known[1]

    def whole(self, k: int, workers: Workers) -> BoxTree:
        """Return a tree over all centres that serves k."""
        with self._lock:
            tree = self.standing(k)
            if tree is None:
                tree = self._planted(self.ctrs, copies_for(k) if self._whole else k, workers)
                # what it serves as well goes; searches that walk there hold it
                self._whole = (*(other for other in self._whole if not tree.serves(other.k)), tree)
            return tree

    def complete(self, workers: Workers) -> BoxTree:
        """Return a tree over all centres, and all copies of them."""
        with self._lock:
            tree = next((tree for tree in self._whole if tree.complete), self._complete)
            if tree is None:
                tree = self._complete = self._planted(self.ctrs, len(self.ctrs), workers)
            return tree

    def part(self, first: int, stride: int, k: int, workers: Workers) -> BoxTree:
        """Return a tree over every stride-th centre, from `first` on; no other holds it."""
        positions = torch.arange(first, len(self.ctrs), stride, device="cpu")
        return self._planted(replace(self.ctrs, subset=self.ctrs.row_numbers(positions)), k, workers)

    def _planted(self, ctrs: Points, k: int, workers: Workers) -> BoxTree:
        return BoxTree(ctrs, min(k, len(ctrs)), workers)

    def meet(self, asked: Asked) -> Forest | None:
        """Let rows walk, unless a few of them tell that all would take longer than the dense screen."""
        forest = Forest(self, asked)
        return forest if forest.pays() else None


class _Standing:
    """The tree that stands, as rows walk it; a lister. It knows no forest, whose tree must go when the forest does."""

    tree: TreeScreen

    def candidates(self, rows: Rows) -> Candidates:
        """Shortlist its centres."""
        return self.tree.candidates(rows)


class _Complete:
    """The tree that holds all copies, which few searches need: it is planted when rows are asked for."""

    def __init__(self, trees: PreparedTrees, form: int, workers: Workers) -> None:
        self._trees, self._form, self._workers = trees, form, workers
        self._made: TreeWithin | None = None

    def members(self, rows: Rows, limit: Tensor, most: int) -> Members | None:
        """Return all centres within the limit; see `Within`."""
        made = self._made
        if made is None:
            made = self._made = TreeWithin(self._trees.complete(self._workers), self._form)  # others make the same
        return made.members(rows, limit, most)


class Forest(Meeting):
    """Trees over every `parts`-th centre, the first with every 0-th: each is a fair sample of the whole.

    Args:
        trees: The trees.
        asked: The search, of all rows of `x.values`. Its plan tells what to look at before; nothing, and there is one
            tree.

    Memory:
        One tree, the row numbers and copied values of its centres where there are several, and 13 bytes a row of
        those whose order is held (`Trees`).
    """

    def __init__(self, trees: PreparedTrees, asked: Asked) -> None:
        self._standing = standing = _Standing()
        super().__init__(Rungs(lambda _: standing), compiled=True)
        self._trees, self._asked, self._x, self._workers = trees, asked, asked.x, asked.workers
        self._look: Look | None = asked.plan.own
        self.parts = self._look.trees.parts if self._look else 1
        self._rows = self._look.trees.rows if self._look else len(self._x)
        if self.parts == 1:
            self.within = _Complete(trees, asked.plan.problem.form, asked.workers)

    def pays(self) -> bool:
        """Let the first tree stand, unless a look tells that the dense screen would take less."""
        look, report = self._look, self._asked.report
        if look is None:
            self._stand(0, 1)
            return True
        stands = self.parts == 1 and self._trees.standing(look.k) is not None
        if stands and look.strides:
            look = replace(look, strides=(1,))  # a sample would tell less
            walk = self._trees.walks.get(look.k)
            if walk is not None and len(self._x) <= min(self._rows, _MANY * look.rows):
                return self._paid(look, walk)
        elif len(look.strides) != 1:
            look = self._faced(look)
            report.look = "the dense screen's scores part a row's centres"
        if look is self._look and (hopeless := self._asked.glanced.get("tree", "")):
            report.look = hopeless
            return False
        for stride in look.strides:
            self._stand(0, stride)
            order = self._ordered(0) if self._rows >= len(self._x) else self._sampled()
            walk = self.tree.walk(self._x.values, order, look.rows, self._workers)
            share = look.share(walk, stride)
            report.look = look.in_words(share, stride)
            if stride == 1:
                self._trees.walks[look.k] = walk
            if share > 1.0:
                return False
            self._order = order  # of all rows, in the tree that stays
        return bool(look.strides)

    def _paid(self, look: Look, walk: Walk) -> bool:
        """Let the tree stand if rows of an earlier search tell so: to ask these, which are few, would cost too much."""
        share = look.share(walk, 1)
        self._asked.report.look = look.in_words(share, 1, remembered=True)
        if share <= 1.0:
            self._stand(0, 1)
            self._order = self._ordered(0)
        return share <= 1.0

    def _faced(self, look: Look) -> Look:
        """Return what to look at, knowing how many centres the dense screen's scores could not part."""
        from janelia_core.ml._knn.screens.tree.crowding import crowding

        x, ctrs = self._x, self._trees.ctrs
        crowd = self._workers.once(lambda: crowding(x, ctrs, True))
        if crowd <= look.most_alike and not look.strides:
            crowd = self._workers.once(lambda: crowding(x, ctrs, False))
        return look.facing(crowd)

    def turns(self) -> Iterator[Tensor | None]:
        """Yield positions of rows in the order in which they are best asked for, all of them for every tree in turn."""
        for number in range(self.parts):
            self.number = number
            if number > 0:
                self._stand(number, self.parts)
            for start in range(0, len(self._x), self._rows):
                if number > 0 or self._rows < len(self._x) or self._look is None:
                    self._order = self._ordered(start)
                yield self._order

    def answer(self, positions: Tensor, answers: Answers) -> Tensor:
        """Answer rows that a single tree proves at once."""
        if self.parts > 1 or not self.tree.stored:
            return positions
        rows, exact = self._x.row_numbers(positions), self._asked.frame.exact
        doubtful = self.tree.answer(
            self._x.values, rows, answers.out, columns=positions, exact=exact, but_self=answers.but_self
        )
        return positions[doubtful]

    def passed(self, numbers: Tensor) -> Tensor:
        """Tell which centres, by their row numbers, stood in trees before this one."""
        ctrs, positions = self._trees.ctrs.subset, numbers
        if ctrs is not None:
            positions = torch.searchsorted(ctrs, numbers).clamp_(max=len(ctrs) - 1)
        stood = positions % self.parts < self.number
        return stood if ctrs is None else stood & (ctrs[positions] == numbers)

    def _stand(self, first: int, stride: int) -> None:
        """Let the tree over every stride-th centre, from `first` on, take the place of the one before."""
        self._standing.__dict__.clear()
        workers, x = self._workers, self._x.values
        k = self._asked.plan.k
        tree = self._trees.whole(k, workers) if stride == 1 else self._trees.part(first, stride, k, workers)
        form = self._asked.plan.problem.form
        self._standing.tree = TreeScreen(tree, min(k, len(tree.ctrs)), x, workers, form)

    @property
    def tree(self) -> TreeScreen:
        """The tree that stands, as these rows walk it."""
        return self._standing.tree

    def _sampled(self) -> Tensor:
        """Return rows from all over x to look at, in the order of the leaves: x may be sorted."""
        step = -(-len(self._x) // min(self._rows, _SAMPLE))
        order = self.tree.tree.order(self._x.values[::step], self._workers)
        return order if step == 1 else self._workers.once(lambda: order.mul_(step))

    def _ordered(self, start: int) -> Tensor:
        tree, x = self.tree.tree, self._x.values
        if tree.ctrs.values is x and tree.ctrs.subset is None and self._rows >= len(x):
            return tree.order(x, self._workers, is_ctrs=True)
        order = tree.order(x[start : start + self._rows], self._workers)
        return order if start == 0 else self._workers.once(lambda: order.add_(start))
