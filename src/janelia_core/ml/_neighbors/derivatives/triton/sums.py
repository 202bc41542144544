"""Sums over pairs by launches of kernels: three of ours and a sort, whatever the sizes, as long as the memory does."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs
from janelia_core.ml._neighbors.derivatives.triton.kinds import Vectors
from janelia_core.ml._runtime.device_kernels import device_kernels_serve, launched, launching

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_DTYPES = (*_FLOATS, torch.uint8, torch.int8, torch.int16, torch.int32)
_PER_PAIR = 64  # bytes of a pair while pairs are sorted by centre
_TILE, _MOST_COLUMNS, _MOST_PAIRS = 1024, 64, 32  # coordinates that a program holds at a time
PIECE = 128  # pairs of one centre that one program adds up, at least

Sums = tuple[Tensor, Tensor]


def sums_on_device(vectors: Vectors, pairs: Pairs, budget: int) -> Sums | None:
    """Return the sums by row (n, d) and by centre (m, d) for one part; None where no kernels serve."""
    w, x, c, *_, r = vectors
    if not (fits(x, c) and w.dtype in _FLOATS and (r is None or r.dtype in _FLOATS)):
        return None
    return launched(lambda: sums(vectors, pairs, budget))


def fits(x: Tensor, c: Tensor) -> bool:
    """Tell whether kernels of the points' device serve, and read them."""
    return device_kernels_serve(x, c) and x.dtype in _DTYPES and c.dtype in _DTYPES and x.numel() > 0 and c.numel() > 0


def sums(vectors: Vectors, pairs: Pairs, budget: int) -> Sums:
    """Return the sums by row (n, d) and by centre (m, d) for one part."""
    by_row = torch.empty(vectors.x.shape, dtype=result_dtype(vectors.x, vectors.c), device=vectors.x.device)
    by_centre = sums_by_centre(vectors, pairs, budget, by_row)
    return by_row, by_centre[:, 0]


def sums_by_centre(vectors: Vectors, pairs: Pairs, budget: int, by_row: Tensor | None = None) -> Tensor:
    """Return the sums by centre (m, parts, d); write to by_row (n, d) those by row, if there is one, of one part."""
    w, x, c, kind, factor, r = vectors
    whole = Vectors(w.resolve_neg(), x.resolve_neg(), c.resolve_neg(), kind, factor, r)
    by_centre = torch.zeros(len(c), len(w), c.shape[1], dtype=result_dtype(x, c), device=x.device)
    n, k = pairs.indices.shape
    step = max(1, budget // (2 * _PER_PAIR * k))
    with launching(x):
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            some = whole._replace(w=whole.w[:, rows], x=whole.x[rows], r=None if r is None else r[rows])
            centres = pairs.centres(rows).contiguous()
            if by_row is not None:
                _sum_rows(some, centres, by_row[rows])
            _sum_centres(some, centres, by_centre, budget // 2, more=start > 0)
    return by_centre


def _shared(vectors: Vectors, k: int) -> tuple[tuple[Tensor, ...], tuple[object, ...], dict[str, object], int]:
    """Return the tensors, numbers and constants that all kernels take, and how many programs share the columns."""
    w, x, c, kind, factor, r = vectors
    d = c.shape[1]
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
    sum_rows[(len(out), shares, 1)](*tensors, centres, out, *numbers, **constants)


def _sum_centres(vectors: Vectors, centres: Tensor, out: Tensor, budget: int, more: bool) -> None:
    from janelia_core.ml._neighbors.derivatives.triton.kernels import sum_centres, sum_pieces

    (m, parts, d), n_pairs = out.shape, centres.numel()
    tensors, numbers, constants, shares = _shared(vectors, centres.shape[1])
    keys, order = torch.sort(centres.view(-1).to(torch.int32 if m < 1 << 31 else torch.int64), stable=True)
    offsets = torch.searchsorted(keys, torch.arange(m + 1, dtype=keys.dtype, device=keys.device))
    piece = max(PIECE, -(-n_pairs * parts * d * 8 // budget))
    pieces = torch.empty(n_pairs // piece + 1, parts, d, dtype=torch.float64, device=out.device)
    sum_pieces[(-(-n_pairs // piece), shares, parts)](
        *tensors, keys, order, offsets, pieces, piece, *numbers, **constants
    )
    sum_centres[(m, shares, parts)](*tensors, order, offsets, pieces, out, piece, *numbers, **constants, MORE=more)
