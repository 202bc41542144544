"""The kernels of pair_kernels.py on blocks of rows and of centres, by as many threads as torch would use."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.machine import this_machine
from janelia_core.ml._knn.workers import Workers

_FEWEST = 1 << 14  # pairs times coordinates below which torch operations cost less than loading the kernels
_WORTH_A_THREAD = 1 << 18


def fits(indices: Tensor, *values: Tensor) -> bool:
    """Whether the kernels take these tensors (rows, d) and a problem of this size is worth them."""
    first = values[0]
    return (
        indices.numel() * values[-1].shape[1] >= _FEWEST
        and first.dtype in (torch.float32, torch.float64)
        and all(value.dtype == first.dtype for value in values)
        and this_machine(first.device).kernels
    )


def products(u: Tensor, v: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool) -> Tensor:
    """Do as `pairs.products`."""
    from janelia_core.ml._neighbors import pair_kernels

    out = torch.empty(indices.shape, dtype=x.dtype, device=x.device)
    uv, vv, xv, cv, iv, ov = (t.detach().contiguous().numpy() for t in (u, v, x, c, indices, out))
    blocks, workers = _rows(indices, x.shape[1])
    with workers:
        workers.each(
            lambda r: pair_kernels.products(uv[r], vv, xv[r], cv, iv[r], differences, ov[r]),
            blocks,
        )
    return out


def sums(w: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int) -> tuple[Tensor, Tensor]:
    """Do as `pairs.sums`."""
    from janelia_core.ml._neighbors import pair_kernels

    rows_out, ctrs_out = torch.empty_like(x), torch.empty_like(c)
    wv, xv, cv, iv, ov = (t.detach().contiguous().numpy() for t in (w, x, c, indices, rows_out))
    blocks, workers = _rows(indices, x.shape[1])
    d, n_ctrs = x.shape[1], c.shape[0]
    step = max(1, min(-(-n_ctrs // workers.count), budget // (8 * max(1, d) * workers.count)))

    def centres(first: int) -> None:
        totals = torch.zeros(min(step, n_ctrs - first), d, dtype=torch.float64, device="cpu")
        pair_kernels.by_centre(wv, xv, cv, iv, differences, first, totals.numpy())
        ctrs_out[first : first + step] = totals

    with workers:
        workers.each(lambda r: pair_kernels.by_row(wv[r], xv[r], cv, iv[r], differences, ov[r]), blocks)
        workers.each(centres, range(0, n_ctrs, step))
    return rows_out, ctrs_out


def _rows(indices: Tensor, d: int) -> tuple[list[slice], Workers]:
    threads = min(torch.get_num_threads(), max(1, indices.numel() * d // _WORTH_A_THREAD))
    step = -(-indices.shape[0] // threads)
    return [slice(start, start + step) for start in range(0, indices.shape[0], step)], Workers(threads)
