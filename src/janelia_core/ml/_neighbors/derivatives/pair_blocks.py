"""The kernels of pair_kernels.py and norm_kernels.py on blocks of rows and of centres, by as many threads as torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import memory_of
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs
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


def limits(dtype: torch.dtype) -> tuple[float, float, float]:
    """Return the least and the largest distance, and the least quotient, that are far from the ends of a format."""
    ends = 2.0**900 if dtype == torch.float64 else 2.0**100
    return 1 / ends, ends, torch.finfo(dtype).tiny


def products(u: Tensor, v: Tensor, x: Tensor, c: Tensor, pairs: Pairs, differences: bool, factor: float) -> Tensor:
    """Do as `pairs.products`."""
    from janelia_core.ml._neighbors.derivatives import pair_kernels

    out = torch.empty(pairs.indices.shape, dtype=x.dtype, device=x.device)
    uv, vv, xv, cv, ov = arrays(u, v, x, c, out)
    listed = _listed(pairs)

    def fill(factor: float, half: float) -> None:
        def work(r: slice) -> None:
            pair_kernels.products(uv, vv, xv, cv, *listed, differences, factor, half, r.start, r.stop, ov)

        _each_block_of_rows(work, pairs.indices, x.shape[1])

    _without_overflow(fill, factor, differences, out)
    return out


def sums(
    w: Tensor, x: Tensor, c: Tensor, pairs: Pairs, differences: bool, factor: float, budget: int
) -> tuple[Tensor, Tensor]:
    """Do as `pairs.sums`."""
    from janelia_core.ml._neighbors.derivatives import pair_kernels

    by_row = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    by_centre = torch.empty(c.shape, dtype=c.dtype, device=c.device)
    xv, cv, ov = arrays(x, c, by_row)
    head = (*memory_of(w), xv, cv, *_listed(pairs), differences)

    def fill_rows(factor: float, half: float) -> None:
        def work(r: slice) -> None:
            pair_kernels.by_row(*head, factor, half, r.start, r.stop, ov)

        _each_block_of_rows(work, pairs.indices, x.shape[1])

    def fill_centres(factor: float, half: float) -> None:
        def work(lowest: int, totals: Any) -> None:
            pair_kernels.by_centre(*head, factor, half, lowest, totals)

        _sum_by_centre(work, by_centre, pairs.indices, budget)

    _without_overflow(fill_rows, factor, differences, by_row)
    _without_overflow(fill_centres, factor, differences, by_centre)
    return by_row, by_centre


def norm_values(u: Tensor, v: Tensor, x: Tensor, c: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    """Do as `norm_pairs.values`, along one direction u (n, d), v (m, d)."""
    from janelia_core.ml._neighbors.derivatives import norm_kernels

    out = torch.empty(pairs.indices.shape, dtype=r.dtype, device=x.device)
    uv, vv, xv, cv, rv, ov = arrays(u, v, x, c, r, out)
    head = (uv, vv, xv, cv, rv, *_listed(pairs), limits(r.dtype))
    _each_block_of_rows(lambda rows: norm_kernels.values(*head, rows.start, rows.stop, ov), pairs.indices, x.shape[1])
    return out


def norm_sums(
    w: Tensor, u: Tensor, v: Tensor, x: Tensor, c: Tensor, r: Tensor, pairs: Pairs, budget: int
) -> tuple[Tensor, Tensor]:
    """Do as `norm_pairs.sums`, for no direction or one."""
    from janelia_core.ml._neighbors.derivatives import norm_kernels

    by_row = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    by_centre = torch.empty(c.shape, dtype=c.dtype, device=c.device)
    head: Any = (*arrays(x, c, r), *_listed(pairs))
    kernels: tuple[Any, Any] = norm_kernels.by_row, norm_kernels.by_centre
    if u.shape[1]:
        head = (*memory_of(w), *arrays(u[:, 0], v[:, 0]), *head)
        kernels = norm_kernels.bent_by_row, norm_kernels.bent_by_centre
    else:
        head = (*memory_of(w), *head, limits(r.dtype))
    (ov,) = arrays(by_row)
    _each_block_of_rows(lambda rows: kernels[0](*head, rows.start, rows.stop, ov), pairs.indices, x.shape[1])
    _sum_by_centre(lambda lowest, totals: kernels[1](*head, lowest, totals), by_centre, pairs.indices, budget)
    return by_row, by_centre


def _without_overflow(fill: Callable[[float, float], None], factor: float, differences: bool, out: Tensor) -> None:
    """Fill out; once more from half the differences where float64 ones, or sums of them, overflowed."""
    fill(factor, 1.0)
    if differences and out.dtype == torch.float64 and not math.isfinite(out.sum()):
        fill(2.0 * factor, 0.5)


def _listed(pairs: Pairs) -> tuple[Any, Any, int]:
    indices, first = arrays(pairs.indices, pairs.first)
    return indices, first, pairs.rows_of_batch


def _each_block_of_rows(work: Callable[[slice], None], indices: Tensor, numbers_a_pair: int) -> None:
    blocks, workers = rows(indices, numbers_a_pair)
    with workers:
        workers.each(work, blocks)


def _sum_by_centre(work: Callable[[int, Any], None], out: Tensor, indices: Tensor, budget: int) -> None:
    """Let work(lowest, totals) add up the float64 totals of blocks of centres, and write them to out (m, d)."""

    def centres(lowest: int, stop: int) -> None:
        totals = torch.zeros(stop - lowest, out.shape[1], dtype=torch.float64, device="cpu")
        work(lowest, totals.numpy())
        out[lowest:stop] = totals

    each_block_of_centres(centres, indices, out.shape[0], out.shape[1], budget)


def arrays(*tensors: Tensor) -> list[Any]:
    """Return NumPy arrays in C order, which share memory with tensors that are so already."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def rows(indices: Tensor, numbers_a_pair: int) -> tuple[list[slice], Workers]:
    """Share the rows out: one block a worker, and the workers."""
    threads = _threads(indices, numbers_a_pair)
    step = max(1, -(-indices.shape[0] // threads))
    n = indices.shape[0]
    return [slice(start, min(start + step, n)) for start in range(0, n, step)], Workers.if_several(threads)


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
