"""Derivatives of distances whose points are on several processes: each process derives by the centres that it has.

Rows that all processes have alike, and a loss that is the same everywhere: a process knows the gradients of all its
pairs, and rows alone are summed over processes. Rows in parts, and a loss that is the sum of the processes' losses:
rows, gradients and indices go to all, block by block, and what rows get goes back.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._distributed.group import Group
from janelia_core.ml._neighbors.derivatives.distances import distances

_STAGE = "bringing gradients together"


class Blocks(NamedTuple):
    """How rows go round in backward.

    Attributes:
        group: The processes.
        n_rows: Of each process, where x is sharded; else nothing.
        most: Rows of each process at a time.
        first: The number of this process's first centre.
    """

    group: Group
    n_rows: list[int]
    most: int
    first: int


class Measured(torch.autograd.Function):
    """Distances that a search has found, with their derivatives by x and by the centres of this process."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, ctrs: Tensor, found: Tensor, indices: Tensor, blocks: Blocks, how: tuple[str, int]
    ) -> Tensor:
        """Hand on what was found: distances (n, k) of centres by their numbers among all."""
        ctx.save_for_backward(x, ctrs, indices)
        ctx.blocks, ctx.how = blocks, how
        return found.view_as(found)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Derive the pairs of this process, then bring the gradients of rows together."""
        x, ctrs, indices = ctx.saved_tensors
        blocks: Blocks = ctx.blocks
        wanted = ctx.needs_input_grad[:2]
        of_x, of_ctrs = (torch.zeros_like(part) if want else None for part, want in zip((x, ctrs), wanted, strict=True))
        for mine, counts in _parts(blocks, len(x)):
            here = [part[mine] for part in (x, grad, indices)]
            if counts:
                here = [blocks.group.rows_gathered(part, counts, _STAGE) for part in here]
            work = functools.partial(_derived, here, ctrs, blocks.first, ctx.how, wanted)
            of_rows, of_centres = blocks.group.together("deriving distances", work)
            if of_x is not None and of_rows is not None:
                first = sum(counts[: blocks.group.rank])
                total = blocks.group.summed(of_rows, _STAGE)
                of_x[mine] = total[first : first + mine.stop - mine.start].to(of_x.dtype)
            if of_ctrs is not None and of_centres is not None:
                of_ctrs += of_centres
        return of_x, of_ctrs, None, None, None, None


def _parts(blocks: Blocks, n: int) -> Iterator[tuple[slice, list[int]]]:
    """Yield which of this process's rows go round together, and how many of every one; none is told if x is alike."""
    if not blocks.n_rows:
        step = blocks.most * blocks.group.size
        for start in range(0, n, step):
            yield slice(start, min(n, start + step)), []
        return
    for start in range(0, max(blocks.n_rows), blocks.most):
        counts = [max(0, min(blocks.most, count - start)) for count in blocks.n_rows]
        yield slice(start, start + counts[blocks.group.rank]), counts


def _derived(
    here: list[Tensor], ctrs: Tensor, first: int, how: tuple[str, int], wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of some rows and of the centres that pairs with centres of this process give."""
    x, grad, indices = here
    local = torch.where((indices >= first) & (indices < first + len(ctrs)), indices - first, -1)
    if not len(x) or not len(ctrs):
        return (torch.zeros_like(x) if wanted[0] else None), None
    with torch.enable_grad():
        rows, centres = (part.detach().requires_grad_(want) for part, want in zip((x, ctrs), wanted, strict=True))
        far = distances(rows, centres, local, *how)
    asked = [part for part in (rows, centres) if part.requires_grad]
    given = iter(torch.autograd.grad(far, asked, torch.where(local < 0, 0, grad).to(far.dtype)))
    return tuple(next(given) if want else None for want in wanted)  # type: ignore[return-value]
