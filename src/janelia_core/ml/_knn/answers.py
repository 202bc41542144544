"""Where the answers of a search go: block by block into one tensor, without a row's own number if so wanted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Answers:
    """The (k, n) result of a search, of any strides.

    Args:
        out: (k, n) int64, of which `put` writes columns; None: what is put first is all, or `hold` comes before.
        but_self: Rows are centres too, of the same number, and do not answer themselves. One more neighbour is searched
            then: the first k of all others are what is left of the first k + 1 of all when the row itself is taken
            away, and if it is not among those (copies of lower index come first), the first k of them are all others.
    """

    def __init__(self, out: Tensor | None, but_self: bool = False) -> None:
        self._out, self.but_self = out, but_self
        self._columns: Tensor | None = None

    def of_rows(self, positions: Tensor) -> Answers:
        """Return where the answers of some rows go, which count from 0 there: into the same result."""
        some = Answers(self.out, self.but_self)
        some._columns = positions
        return some

    @property
    def out(self) -> Tensor:
        """The result."""
        assert self._out is not None
        return self._out

    def hold(self, k: int, n: int, device: torch.device) -> None:
        """Make a place for the result, where there is none yet."""
        if self._out is None:
            self._out = torch.empty(k, n, dtype=torch.int64, device=device)

    def put(self, columns: Tensor | slice, found: Tensor, numbers: Tensor | None) -> None:
        """Write found (r, w), nearest first, of rows called numbers (r,), which but_self alone asks for."""
        if self._out is None:
            self._out = found.T.contiguous()
            return
        if self.but_self:
            assert numbers is not None
            found = without_own(found, numbers, len(self.out))
        self.out[: found.shape[1], columns if self._columns is None else self._columns[columns]] = found.T

    def kept(self, columns: Tensor, numbers: Tensor, passed: Tensor) -> Tensor:
        """Return what was put (r, w), and once more each row itself where it has been among those searched."""
        found = self.out[:, columns].T
        if not self.but_self:
            return found
        return torch.cat([found, torch.where(passed, numbers, -1)[:, None]], dim=1)


def without_own(found: Tensor, numbers: Tensor, k: int) -> Tensor:
    """Return found (r, k + 1), or all there are, without each row's own number: (r, k), or as wide as it was."""
    if found.shape[1] <= k:  # a row that was not among those searched keeps them all
        found = torch.nn.functional.pad(found, (0, 1), value=-1)
    width = found.shape[1] - 1
    own = found == numbers[:, None]
    own[:, width] = ~own[:, :width].any(dim=1)
    if not own.is_cpu:  # there a bool index is waited for
        places = torch.arange(width, device=own.device)
        return found.gather(1, places + (places >= own.to(torch.int8).argmax(dim=1)[:, None]))
    return found[~own].view(len(found), width)


def memory_of(t: Tensor) -> tuple[Any, tuple[int, int]]:
    """Return the memory of a matrix in one dimension, as a NumPy array, and its strides: nothing is copied."""
    t = t.detach().resolve_neg()
    span = t.numel() and 1 + sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
    return t.as_strided((span,), (1,)).numpy(), (t.stride(0), t.stride(1))
