"""How many of the listed neighbours are right, row by row, with ties counted fairly.

A listed centre counts if it is no farther than the true k-th neighbour, whichever of several equally distant ones it
is, and if it is not listed twice. That is how ann-benchmarks and big-ann-benchmarks count recall@k, except that
distances are compared exactly here: no tolerance makes a wrong neighbour right.

Recall counted so can be 1 for a row that lists two centres tied with the k-th and leaves out a nearer one. That row is
no answer, so it is wrong all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.stored_distances import DistanceCheck
from janelia_core.ml._knn.merge import compare

_SHOWN = 10


@dataclass
class Recall:
    """How right an answer is.

    Attributes:
        n_rows: Rows of the answer.
        k: Neighbours of each row that were checked.
        n_found: Listed centres that are among the k nearest, ties counted fairly.
        n_wrong: Rows in which not all k are, or which leave out a centre nearer than the k-th.
        n_unordered: Rows that are right, but not nearest first.
        n_identical: Rows equal to this library's answer, in which ties go to the lowest row number.
        wrong_rows: The first few wrong rows.
        distances: How right the distances are that are stored with the answer; None: there are none.
        notes: As in `FileReport`.
    """

    n_rows: int
    k: int
    n_found: int = 0
    n_wrong: int = 0
    n_unordered: int = 0
    n_identical: int = 0
    wrong_rows: list[int] = field(default_factory=list)
    distances: DistanceCheck | None = None
    notes: tuple[str, ...] = ()

    @property
    def recall(self) -> float:
        """Recall@k: the share of the k nearest that was found, over all rows."""
        return self.n_found / (self.n_rows * self.k)

    @property
    def all_right(self) -> bool:
        """Whether no row is wrong, and no stored distance either, but for rounding."""
        return self.n_wrong == 0 and (self.distances is None or self.distances.n_off == 0)

    def __str__(self) -> str:
        rows = ", ".join(map(str, self.wrong_rows)) + (", ..." if self.n_wrong > len(self.wrong_rows) else "")
        return "\n".join(
            [
                f"recall@{self.k}: {self.recall:.6f} ({self.n_found} of {self.n_rows * self.k})",
                f"wrong rows: {self.n_wrong} of {self.n_rows}" + (f" ({rows})" if self.n_wrong else ""),
                f"right, but not nearest first: {self.n_unordered} rows",
                f"identical to the exact answer with ties to the lowest row number: {self.n_identical} rows",
                *([] if self.distances is None else [str(self.distances)]),
            ]
        )


def count(
    found: Recall,
    start: int,
    x: Tensor,
    centres: VectorFile,
    truth: Tensor,
    theirs: Tensor,
    valid: Tensor,
    metric: str,
) -> None:
    """Count a block of rows.

    Args:
        found: Where to.
        start: The number of the first row in the answer.
        x: (r, d).
        centres: The open file.
        truth: (r, k) the true neighbours, -1 behind them where there are fewer.
        theirs: (r, k) the listed ones, likewise.
        valid: (r, k) which of these are centres that may be found.
        metric: Of the search.
    """
    valid = valid.clone()
    by_number = theirs.sort(dim=1, stable=True)
    repeated = torch.zeros_like(valid)
    repeated.scatter_(1, by_number.indices[:, 1:], by_number.values[:, 1:] == by_number.values[:, :-1])
    valid &= ~repeated
    sorted_truth = truth.sort(dim=1).values
    place = torch.searchsorted(sorted_truth, theirs.contiguous()).clamp(max=truth.shape[1] - 1)
    right = valid & (sorted_truth.gather(1, place) == theirs)
    missing = theirs < 0  # rightly so as often as the exact answer does
    right |= missing & (missing.cumsum(dim=1) <= (truth < 0).sum(dim=1, keepdim=True))
    row, slot = (valid & ~right).nonzero(as_tuple=True)
    # What is not among the exact answer is right only where it ties with the last of that.
    right[row, slot] = compare(x[row], centres, theirs[row, slot], truth[row, -1], metric) <= 0
    identical = (theirs == truth).all(dim=1)
    good = right.all(dim=1) & ~_misses_nearer(x, centres, truth, theirs, metric)
    found.n_found += int(right.sum())
    found.n_identical += int(identical.sum())
    found.n_unordered += _unordered(x, centres, theirs, good & ~identical, metric)
    wrong = (~good).nonzero()[:, 0]
    found.n_wrong += len(wrong)
    found.wrong_rows += (wrong[: _SHOWN - len(found.wrong_rows)] + start).tolist()


def _misses_nearer(x: Tensor, centres: VectorFile, truth: Tensor, theirs: Tensor, metric: str) -> Tensor:
    """Tell for which rows (r,) a true neighbour is not listed though it is nearer than the k-th."""
    ours = theirs.sort(dim=1).values
    place = torch.searchsorted(ours, truth.contiguous()).clamp(max=ours.shape[1] - 1)
    left_out = (ours.gather(1, place) != truth) & (truth >= 0)
    missed = (left_out & (truth[:, -1:] < 0)).any(dim=1)  # where there are fewer than k, each of them counts
    row, slot = (left_out & ~missed[:, None]).nonzero(as_tuple=True)
    missed[row[compare(x[row], centres, truth[row, slot], truth[row, -1], metric) < 0]] = True
    return missed


def _unordered(x: Tensor, centres: VectorFile, theirs: Tensor, rows: Tensor, metric: str) -> int:
    """Return how many of the rows where `rows` are not in order of distance."""
    row = rows.nonzero()[:, 0].repeat_interleave(theirs.shape[1] - 1)
    before, after = theirs[rows, :-1].reshape(-1), theirs[rows, 1:].reshape(-1)
    wrong = (before < 0) & (after >= 0)
    two = (before >= 0) & (after >= 0)
    wrong[two] = compare(x[row[two]], centres, before[two], after[two], metric) > 0
    return len(torch.unique(row[wrong]))
