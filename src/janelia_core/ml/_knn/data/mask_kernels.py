"""Numba kernels that make bits of a mask's bytes: a word for each row and TILE centres, in the order of a screen."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from janelia_core.ml._runtime.arrays import I64, U8
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.bits import bits_set
from janelia_core.ml._simd.dot_tiles import TILE
from janelia_core.ml._simd.octets import COLUMNS, nonzero, octets

WORD: Any = {16: np.uint16, 64: np.uint64}[TILE]
"""The type of a word: as many bits as a tile has centres."""
Bits = npt.NDArray[Any]
_OCTET = 8


@jit
def fill_run(items: U8, offsets: I64, start: int, stop: int, words: Bits) -> None:
    """Writes the words of centres start .. stop - 1, bit q of word t being that of centre t TILE + q.

    Args:
        items: Bytes, 0 where a row may not have a centre.
        offsets: (r,), where the byte of a row and of centre `start` is.
        start: A multiple of TILE.
        stop: See above.
        words: (n, n_words), n >= r.
    """
    whole = stop // TILE
    for i in range(offsets.shape[0]):
        at = offsets[i] - start
        for tile in range(start // TILE, whole):
            words[np.uint64(i), np.uint64(tile)] = nonzero(items, at + tile * TILE)
        if stop > whole * TILE:
            last = np.uint64(0)
            for j in range(whole * TILE, stop):
                last |= np.uint64(items[at + j] != 0) << np.uint64(j - whole * TILE)
            words[i, whole] = last


@jit
def fill_strided(items: U8, offsets: I64, start: int, stop: int, panel_words: int, n_panels: int, words: Bits) -> None:
    """As `fill_run`, where centre q n_panels + p is number q of panel p, which has panel_words words.

    start is a multiple of 8 n_panels; words are 0 where nothing was written before.
    """
    octet, columns = np.zeros(n_panels, np.uint8), n_panels if n_panels >= COLUMNS else 0
    for i in range(offsets.shape[0]):
        for q in range(start // n_panels, -(-stop // n_panels), _OCTET):
            first = offsets[i] + q * n_panels - start
            if columns > 0 and (q + _OCTET) * n_panels <= stop:
                for p in range(0, columns, COLUMNS):
                    place = min(p, columns - COLUMNS)
                    octets(items, first + place, n_panels, octet, place)
            else:
                for p in range(n_panels):
                    bits = np.uint8(0)
                    for b in range(min(_OCTET, -(-(stop - p) // n_panels) - q)):
                        bits |= np.uint8(items[first + b * n_panels + p] != 0) << np.uint8(b)
                    octet[p] = bits
            tile, shift = np.uint64(q // TILE), np.uint64(q % TILE)
            for p in range(np.uint64(n_panels)):
                words[np.uint64(i), p * np.uint64(panel_words) + tile] |= np.uint64(octet[p]) << shift


@inlined
def is_allowed(bits: Bits, i: int, j: int) -> bool:
    """Whether row i may have the centre in place j; bits (0, 0): any."""
    if bits.shape[0] == 0:
        return True
    word = np.uint64(bits[np.uint64(i), np.uint64(j // TILE)])
    return bool((word >> np.uint64(j % TILE)) & np.uint64(1))


@jit
def count(bits: Bits, counts: I64) -> None:
    """Writes how many centres each row may have."""
    for i in range(counts.shape[0]):
        total = 0
        for t in range(bits.shape[1]):
            total += bits_set(np.uint64(bits[i, t]))
        counts[i] = total
