"""Numba kernel that rounds points to a screen's format and measures what is lost, in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from janelia_core.ml._jit import jit
from janelia_core.ml._knn.float_bits import bits_of_float, float_of_bits


@jit
def round_points(u: Any, shift: Any, scale: float, grid: bool, half: bool, values: Any, sums: Any) -> None:
    """Writes u * scale - shift in float32 or bfloat16, and sums of squares of point, loss, value and u.

    Args:
        u: (r, d) points, float32 or float64.
        shift: (d,) float64, scaled already.
        scale: A power of two.
        grid: The shift is made of integers; then points that are integers lose nothing in the subtraction.
        half: Round to bfloat16 (the float32 written holds one), else to float32.
        values: (d, r) float32, written; a product may flush subnormals, so they are written as 0.
        sums: (r, 5) float64, written: |point|^2, |point - value|^2, |value|^2, |u scale|^2, and 1 for a
            point made of integers equal to its value, else 0.
    """
    unscale = 1.0 / scale
    for i in range(u.shape[0]):
        square, loss, kept, wide = 0.0, 0.0, 0.0, 0.0
        whole = grid
        for q in range(u.shape[1]):
            given = np.float64(u[i, q]) * scale
            point = given - shift[q]
            value = np.float32(point)
            if half:
                bits = bits_of_float(value)
                even = (bits >> np.uint32(16)) & np.uint32(1)
                value = float_of_bits(np.uint32((bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)))
            if abs(value) < np.float32(2.0**-126):
                value = np.float32(0.0)
            back = np.float64(value)
            gap = point - back
            square += point * point
            loss += gap * gap
            kept += back * back
            wide += given * given
            # The last test: scaling down a subnormal may have lost it.
            whole = whole and gap == 0.0 and given == np.floor(given) and given * unscale == np.float64(u[i, q])
            values[q, i] = value
        sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3] = square, loss, kept, wide
        sums[i, 4] = np.float64(whole)
