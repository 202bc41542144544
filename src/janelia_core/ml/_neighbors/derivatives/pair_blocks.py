"""The kernels of pair_kernels.py on blocks of rows and of centres, by as many threads as torch would use."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.answers import memory_of
from janelia_core.ml._knn.data.points import as_array
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs
from janelia_core.ml._runtime.arrays import Reals
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:  # or Numba would be imported
    from janelia_core.ml._neighbors.derivatives.pair_kernels import Form, Lengths, Listed, Moves, Weights

FEWEST = 1 << 14  # pairs times numbers a pair below which torch operations cost less than loading the kernels
_WORTH_A_THREAD = 1 << 18


def fits(indices: Tensor, *tensors: Tensor) -> bool:
    """Whether the kernels take these tensors and a problem of this size is worth them."""
    first = tensors[0]
    return (
        indices.numel() * max(tensor[:1].numel() for tensor in tensors) >= FEWEST
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
    out = torch.empty(pairs.indices.shape, dtype=x.dtype, device=x.device)
    _without_overflow(lambda form: _evaluate((u, v, x, c), pairs, form, None, out), factor, differences, out)
    return out


def sums(
    w: Tensor, x: Tensor, c: Tensor, pairs: Pairs, differences: bool, factor: float, budget: int
) -> tuple[Tensor, Tensor]:
    """Do as `pairs.sums`."""
    by_row, by_centre = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (x, c))
    all_rows = _Summed.of(w, x, c, pairs)

    def rows(form: Form) -> None:
        _sum_by_row(all_rows._replace(form=form), by_row, pairs)

    def centres(form: Form) -> None:
        _sum_by_centre(all_rows._replace(form=form), by_centre, pairs, budget)

    _without_overflow(rows, factor, differences, by_row)
    _without_overflow(centres, factor, differences, by_centre)
    return by_row, by_centre


def norm_values(u: Tensor, v: Tensor, x: Tensor, c: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    """Do as `norm_pairs.values`, along one direction u (n, d), v (m, d)."""
    out = torch.empty(pairs.indices.shape, dtype=r.dtype, device=x.device)
    _evaluate((u, v, x, c), pairs, None, _lengths(r), out)
    return out


def norm_sums(
    w: Tensor, u: Tensor, v: Tensor, x: Tensor, c: Tensor, r: Tensor, pairs: Pairs, budget: int
) -> tuple[Tensor, Tensor]:
    """Do as `norm_pairs.sums`, for no direction or one."""
    by_row, by_centre = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (x, c))
    summed = _Summed.of(w, x, c, pairs)._replace(lengths=_lengths(r))
    if u.shape[1]:
        uv, vv = arrays(u[:, 0], v[:, 0])
        summed = summed._replace(moves=(uv, vv))
    _sum_by_row(summed, by_row, pairs)
    _sum_by_centre(summed, by_centre, pairs, budget)
    return by_row, by_centre


class _Summed(NamedTuple):
    """What `add_up` takes for all blocks."""

    weights: Weights
    own: Reals
    others: Reals
    pairs: Listed
    form: Form | None = None
    lengths: Lengths | None = None
    moves: Moves | None = None

    @classmethod
    def of(cls, w: Tensor, x: Tensor, c: Tensor, pairs: Pairs) -> _Summed:
        """Return what is summed by row."""
        xv, cv = arrays(x, c)
        return cls(memory_of(w), xv, cv, listed(pairs))

    def by_centre(self) -> _Summed:
        """Return the same with the ends of each pair exchanged."""
        moves = None if self.moves is None else self.moves[::-1]
        return self._replace(own=self.others, others=self.own, moves=moves)


def _lengths(r: Tensor) -> Lengths:
    return arrays(r)[0], limits(r.dtype)


def listed(pairs: Pairs) -> Listed:
    """Return pairs as arrays."""
    indices, first = arrays(pairs.indices, pairs.first)
    return indices, first, pairs.rows_of_batch


def _without_overflow(fill: Callable[[Form], None], factor: float, differences: bool, out: Tensor) -> None:
    """Fill out; once more from half the differences where float64 ones, or sums of them, overflowed."""
    fill((differences, factor, 1.0))
    if differences and out.dtype == torch.float64 and not math.isfinite(out.sum()):
        fill((differences, 2.0 * factor, 0.5))


def _evaluate(
    points: tuple[Tensor, Tensor, Tensor, Tensor], pairs: Pairs, form: Form | None, lengths: Lengths | None, out: Tensor
) -> None:
    """Write a number for each pair to out (n, k)."""
    from janelia_core.ml._neighbors.derivatives import pair_kernels

    uv, vv, xv, cv, ov = arrays(*points, out)
    who = listed(pairs)

    def some(rows: tuple[int, int]) -> None:
        pair_kernels.evaluate(uv, vv, xv, cv, who, form, lengths, (*rows, 0), ov)

    each_block_of_rows(some, pairs.indices, xv.shape[1])


def _sum_by_row(summed: _Summed, out: Tensor, pairs: Pairs) -> None:
    """Write sums by row to out (n, d)."""
    from janelia_core.ml._neighbors.derivatives import pair_kernels

    (ov,) = arrays(out)

    def some(rows: tuple[int, int]) -> None:
        pair_kernels.add_up(*summed, (*rows, 0), np.empty((1, ov.shape[1])), ov)

    each_block_of_rows(some, pairs.indices, ov.shape[1])


def _sum_by_centre(summed: _Summed, out: Tensor, pairs: Pairs, budget: int) -> None:
    """Write sums by centre to out (m, d): float64 totals of a block of centres at a time."""
    from janelia_core.ml._neighbors.derivatives import pair_kernels

    n, exchanged = pairs.indices.shape[0], summed.by_centre()

    def some(lowest: int, stop: int) -> None:
        totals = torch.zeros(stop - lowest, out.shape[1], dtype=torch.float64, device="cpu")
        pair_kernels.add_up(*exchanged, (0, n, lowest), totals.numpy(), None)
        out[lowest:stop] = totals

    each_block_of_centres(some, pairs.indices, out.shape[0], out.shape[1], budget)


def arrays(*tensors: Tensor) -> list[Reals]:
    """Return NumPy arrays in C order, which share memory with tensors that are so already."""
    return [as_array(tensor) for tensor in tensors]


def each_block_of_rows(work: Callable[[tuple[int, int]], None], indices: Tensor, numbers_a_pair: int) -> None:
    """Call work((start, stop)) on blocks of rows, one a worker."""
    threads, n = _threads(indices, numbers_a_pair), indices.shape[0]
    step = max(1, -(-n // threads))
    with Workers.if_several(threads) as workers:
        workers.each(work, [(start, min(start + step, n)) for start in range(0, n, step)])


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
