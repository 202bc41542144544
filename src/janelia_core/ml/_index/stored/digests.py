"""Digests of what is in memory, and the fingerprint of centres.

The digest of some bytes is the SHA-256 of the SHA-256 of each MiB of them, so that threads can share the work and
their number does not matter. SHA-256 has instructions of its own on most machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._index.stored.kinds import Array, name_of, tensor_to_array
from janelia_core.ml._runtime.workers import Workers

CHUNK: Final = 1 << 20
_ALONE: Final = 4 * CHUNK  # bytes that one thread has done with sooner than others have begun

Fill = Callable[[int, int, memoryview], None]
"""Puts the bytes of a view, whose number and place in it are given, where they are to be."""


def digests(views: Sequence[memoryview], fill: Fill | None = None, wanted: bool = True) -> list[str]:
    """Return the digest of each view of bytes.

    Args:
        views: Bytes.
        fill: Called for every piece of them before it is read.
        wanted: False: everything is filled, and nothing is read.
    """
    items = [(number, at) for number, view in enumerate(views) for at in range(0, len(view), CHUNK)]

    def work(item: tuple[int, int]) -> bytes:
        number, at = item
        piece = views[number][at : at + CHUNK]
        if fill is not None:
            fill(number, at, piece)
        return sha256(piece).digest() if wanted else b""

    found: list[list[bytes]] = [[] for _ in views]
    with workers_for(sum(map(len, views))) as workers:
        for (number, _), digest in zip(items, workers.each(work, items), strict=True):
            found[number].append(digest)
    return [joined(each) for each in found]


def workers_for(n_bytes: int) -> Workers:
    """Return as many threads as torch would use for so many bytes, at most."""
    return Workers.if_several(min(torch.get_num_threads(), -(-n_bytes // _ALONE) or 1))


def joined(of_chunks: Iterable[bytes]) -> str:
    """Return the digest of bytes from those of each MiB."""
    return sha256(b"".join(of_chunks)).hexdigest()


def as_bytes(array: Array) -> memoryview:
    """Return the bytes of a contiguous array."""
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)


def fingerprint(values: Tensor) -> str:
    """Return what tells centres from all others: a digest of their dtype, shape and bits.

    Where they are stored, with which strides and on which device makes no difference.

    Args:
        values: (n, d) of any dtype.
    """
    array = tensor_to_array(values)
    per_chunk = CHUNK // array.itemsize
    starts = range(0, array.size, per_chunk)
    with workers_for(array.nbytes) as workers:
        found = workers.each(lambda start: sha256(as_bytes(_piece(array, start, start + per_chunk))).digest(), starts)
    return of_centres(values.dtype, tuple(values.shape), joined(found))


def of_centres(dtype: torch.dtype, shape: tuple[int, ...], digest: str) -> str:
    """Return the fingerprint of centres whose bytes have this digest."""
    return sha256(f"{name_of(dtype)} {shape} {digest}".encode()).hexdigest()


def _piece(array: Array, first: int, last: int) -> Array:
    """Return values first .. last - 1, counted row by row, little-endian and contiguous."""
    n, d = array.shape
    last = min(last, n * d)
    if array.flags.c_contiguous:
        piece = array.reshape(-1)[first:last]
    elif d > last - first:
        piece = array.flat[first:last]
    else:
        top = first // d
        piece = np.ascontiguousarray(array[top : -(-last // d)]).reshape(-1)[first - top * d : last - top * d]
    return piece.astype(piece.dtype.newbyteorder("<"), copy=False)
