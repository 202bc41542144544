"""The kernels of pair_kernels.py on blocks of rows and of centres, by as many threads as torch would use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers

_FEWEST = 1 << 14  # pairs times numbers a pair below which torch operations cost less than loading the kernels
_WORTH_A_THREAD = 1 << 18


def fits(indices: Tensor, *tensors: Tensor) -> bool:
    """Whether the kernels take these tensors and a problem of this size is worth them."""
    first = tensors[0]
    return (
        indices.numel() * max(tensor[:1].numel() for tensor in tensors) >= _FEWEST
        and first.dtype in (torch.float32, torch.float64)
        and all(tensor.dtype == first.dtype for tensor in tensors)
        and this_machine(first.device).kernels
    )


def products(u: Tensor, v: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool) -> Tensor:
    """Do as `pairs.products`."""
    from janelia_core.ml._neighbors import pair_kernels

    out = torch.empty(indices.shape, dtype=x.dtype, device=x.device)
    uv, vv, xv, cv, iv, ov = arrays(u, v, x, c, indices, out)
    blocks, workers = rows(indices, x.shape[1])
    with workers:
        workers.each(lambda r: pair_kernels.products(uv[r], vv, xv[r], cv, iv[r], differences, ov[r]), blocks)
    return out


def sums(w: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int) -> tuple[Tensor, Tensor]:
    """Do as `pairs.sums`."""
    from janelia_core.ml._neighbors import pair_kernels

    by_row = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    by_centre = torch.empty(c.shape, dtype=c.dtype, device=c.device)
    wv, xv, cv, iv, ov = arrays(w, x, c, indices, by_row)
    blocks, workers = rows(indices, x.shape[1])
    with workers:
        workers.each(lambda r: pair_kernels.by_row(wv[r], xv[r], cv, iv[r], differences, ov[r]), blocks)

    def centres(first: int, last: int) -> None:
        totals = torch.zeros(last - first, x.shape[1], dtype=torch.float64, device="cpu")
        pair_kernels.by_centre(wv, xv, cv, iv, differences, first, totals.numpy())
        by_centre[first:last] = totals

    each_block_of_centres(centres, indices, c.shape[0], x.shape[1], budget)
    return by_row, by_centre


def arrays(*tensors: Tensor) -> list[Any]:
    """Return NumPy arrays in C order, which share memory with tensors that are so already."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def rows(indices: Tensor, numbers_a_pair: int) -> tuple[list[slice], Workers]:
    """Share the rows out: one block a worker, and the workers."""
    threads = _threads(indices, numbers_a_pair)
    step = max(1, -(-indices.shape[0] // threads))
    return [slice(start, start + step) for start in range(0, indices.shape[0], step)], Workers.if_several(threads)


def each_block_of_centres(
    work: Callable[[int, int], None], indices: Tensor, n_ctrs: int, numbers_a_centre: int, budget: int
) -> None:
    """Call work(first, last) on blocks of centres whose float64 sums, for all workers, fit into budget bytes."""
    threads = _threads(indices, numbers_a_centre)
    step = max(1, min(-(-n_ctrs // threads), budget // (8 * max(1, numbers_a_centre) * threads)))
    with Workers.if_several(threads) as workers:
        workers.each(lambda first: work(first, min(first + step, n_ctrs)), range(0, n_ctrs, step))


def _threads(indices: Tensor, numbers_a_pair: int) -> int:
    return min(torch.get_num_threads(), max(1, indices.numel() * numbers_a_pair // _WORTH_A_THREAD))
