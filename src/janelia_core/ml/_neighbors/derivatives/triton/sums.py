"""Sums over pairs by launches of kernels: three of ours and a sort, whatever the sizes, as long as the memory does."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs
from janelia_core.ml._neighbors.derivatives.triton.kinds import Vectors
from janelia_core.ml._runtime.device_kernels import device_kernels_serve, failed_on_device, launching

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_DTYPES = (*_FLOATS, torch.uint8, torch.int8, torch.int16, torch.int32)
_PER_PAIR = 64  # bytes of a pair while pairs are sorted by centre
_TILE, _MOST_COLUMNS, _MOST_PAIRS = 1024, 64, 32  # coordinates that a program holds at a time
_PIECE = 128  # pairs of one centre that one program adds up, at least

Sums = tuple[Tensor, Tensor]


def sums_on_device(vectors: Vectors, pairs: Pairs, budget: int) -> Sums | None:
    """Return the sums by row (n, d) and by centre (m, d); None where kernels of the device do not serve."""
    w, x, c, *_, r = vectors
    if not (_fits(x, c) and w.dtype in _FLOATS and (r is None or r.dtype in _FLOATS)):
        return None
    try:
        return sums(vectors, pairs, budget)
    except Exception as error:
        if not failed_on_device(error):
            raise
        return None


def _fits(x: Tensor, c: Tensor) -> bool:
    return device_kernels_serve(x, c) and x.dtype in _DTYPES and c.dtype in _DTYPES and x.numel() > 0 and c.numel() > 0


def sums(vectors: Vectors, pairs: Pairs, budget: int) -> Sums:
    """Return the sums by row and by centre."""
    w, x, c, kind, factor, r = vectors
    vectors = Vectors(w.resolve_neg(), x.resolve_neg(), c.resolve_neg(), kind, factor, r)
    dtype = result_dtype(x, c)
    by_row = torch.empty(x.shape, dtype=dtype, device=x.device)
    by_centre = torch.zeros(c.shape, dtype=dtype, device=x.device)
    n, k = pairs.indices.shape
    step = max(1, budget // (2 * _PER_PAIR * k))
    with launching(x):
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            some = vectors._replace(w=vectors.w[rows], x=vectors.x[rows], r=None if r is None else r[rows])
            centres = pairs.centres(rows).contiguous()
            _sum_rows(some, centres, by_row[rows])
            _sum_centres(some, centres, by_centre, budget // 2, more=start > 0)
    return by_row, by_centre


def _shared(vectors: Vectors, k: int) -> tuple[tuple[Tensor, ...], tuple[object, ...], dict[str, object], int]:
    """Return the tensors, numbers and constants that all kernels take, and how many programs share the columns."""
    w, x, c, kind, factor, r = vectors
    d = x.shape[1]
    columns = min(_MOST_COLUMNS, max(2, 1 << (d - 1).bit_length()))
    wide = torch.float64 in (x.dtype, c.dtype)
    constants: dict[str, object] = {
        "KIND": kind,
        "WIDE": wide,
        "S": min(_MOST_PAIRS, _TILE // columns),
        "B": columns,
    }
    tensors = (w, w if r is None else r.contiguous(), x, c)
    return tensors, (k, d, factor, *w.stride(), *x.stride(), *c.stride()), constants, -(-d // columns)


def _sum_rows(vectors: Vectors, centres: Tensor, out: Tensor) -> None:
    from janelia_core.ml._neighbors.derivatives.triton.kernels import sum_rows

    tensors, numbers, constants, shares = _shared(vectors, centres.shape[1])
    sum_rows[(len(out), shares)](*tensors, centres, out, *numbers, **constants)


def _sum_centres(vectors: Vectors, centres: Tensor, out: Tensor, budget: int, more: bool) -> None:
    from janelia_core.ml._neighbors.derivatives.triton.kernels import sum_centres, sum_pieces

    (m, d), n_pairs = out.shape, centres.numel()
    tensors, numbers, constants, shares = _shared(vectors, centres.shape[1])
    keys, order = torch.sort(centres.view(-1).to(torch.int32 if m < 1 << 31 else torch.int64), stable=True)
    offsets = torch.searchsorted(keys, torch.arange(m + 1, dtype=keys.dtype, device=keys.device))
    piece = max(_PIECE, -(-n_pairs * d * 8 // budget))
    pieces = torch.empty(n_pairs // piece + 1, d, dtype=torch.float64, device=out.device)
    sum_pieces[(-(-n_pairs // piece), shares)](*tensors, keys, order, offsets, pieces, piece, *numbers, **constants)
    sum_centres[(m, shares)](*tensors, order, offsets, pieces, out, piece, *numbers, **constants, MORE=more)
