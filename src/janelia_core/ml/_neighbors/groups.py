"""Batches as one flat problem: rows under rows, centres under centres, and groups that say who meets whom.

A group is five numbers: rows first .. last of x meet centres first .. last of ctrs, and the fifth is the column of the
first of these in masks, drawn subsets and answers (which speak of one batch where there are leading dimensions, of all
centres where batches are ragged).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Flat(NamedTuple):
    """A batch as one flat problem.

    Attributes:
        x: (n, d).
        ctrs: (m, d); x itself where it was x itself.
        groups: (n_groups, 5) int64, or None: all rows meet all centres.
        shape: Shape of the result but for k.
        first_ctrs: (n_groups,) first centre of each batch of rows, which the result calls 0; None if all are 0.
    """

    x: Tensor
    ctrs: Tensor
    groups: Tensor | None
    shape: tuple[int, ...]
    first_ctrs: Tensor | None


def flatten(x: Tensor, ctrs: Tensor, lengths: Tensor | None, ctrs_lengths: Tensor | None) -> Flat:
    """Flatten the leading dimensions of x (..., n, d) and ctrs (..., m, d), which broadcast.

    Args:
        x: (..., n, d).
        ctrs: (..., m, d).
        lengths: (...) int64 or None: rows of each batch that count.
        ctrs_lengths: (...) int64 or None: centres of each batch that count.
    """
    n, m = x.shape[-2], ctrs.shape[-2]
    if x.ndim == 2 and ctrs.ndim == 2:
        return Flat(x, ctrs, None, (n,), None)
    leading = leading_shape(x, ctrs)
    shape = (*leading, n)
    same = x is ctrs
    flat_x = x.expand(*leading, *x.shape[-2:]).flatten(0, -2)
    flat_ctrs = flat_x if same else ctrs.flatten(0, -2)
    if ctrs.ndim == 2 and lengths is None and ctrs_lengths is None:
        return Flat(flat_x, flat_ctrs, None, shape, None)
    device = x.device
    # Centres are not copied for batches that share them: their groups name the same ones.
    sets = torch.arange(_product(ctrs.shape[:-2]), device=device).reshape(ctrs.shape[:-2])
    first_ctrs = sets.expand(leading) * m
    first_rows = torch.arange(_product(leading), device=device).reshape(leading) * n
    groups = torch.stack(
        [
            first_rows,
            first_rows + (n if lengths is None else lengths.expand(leading)),
            first_ctrs,
            first_ctrs + (m if ctrs_lengths is None else ctrs_lengths.expand(leading)),
            torch.zeros_like(first_rows),
        ],
        dim=-1,
    ).reshape(-1, 5)
    return Flat(flat_x, flat_ctrs, groups, shape, None if ctrs.ndim == 2 else first_ctrs.reshape(-1))


def leading_shape(x: Tensor, ctrs: Tensor) -> tuple[int, ...]:
    """Return what the leading dimensions of x and ctrs broadcast to; a RuntimeError says that they don't."""
    shape: tuple[int, ...] = torch.broadcast_shapes(x.shape[:-2], ctrs.shape[:-2])  # type: ignore[no-untyped-call]
    return shape


def of_batch_vectors(x_batch: Tensor, ctrs_batch: Tensor) -> Tensor:
    """Return the groups (n_groups, 5) of ragged batches: the rows and the centres that carry the same number."""
    _check_ascending("x_batch", x_batch)
    _check_ascending("ctrs_batch", ctrs_batch)
    numbers = torch.unique_consecutive(x_batch)
    columns = [
        torch.searchsorted(batch, numbers, right=right)
        for batch in (x_batch.contiguous(), ctrs_batch.contiguous())
        for right in (False, True)
    ]
    return torch.stack([*columns, columns[2]], dim=1)


def _check_ascending(name: str, batch: Tensor) -> None:
    descents = (batch[1:] < batch[:-1]).nonzero()[:, 0]
    if len(descents):
        i = int(descents[0])
        values = f"{name}[{i}] = {int(batch[i])} and {name}[{i + 1}] = {int(batch[i + 1])}"
        raise ValueError(f"{name} must be sorted in ascending order, got {values}; sort rows by batch first")


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
