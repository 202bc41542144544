"""Centres as the kernels of the codebook screen take them, and what their scores prove: the equations of `screen`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import UNIT32, UNIT64, DistanceBound, gamma
from janelia_core.ml._knn.data.directions import directions
from janelia_core.ml._knn.data.points import Points, as_float64
from janelia_core.ml._knn.metrics.metric import COSINE, DISTANCE
from janelia_core.ml._knn.screens.codebook import cost
from janelia_core.ml._knn.screens.codebook.halves import Halves
from janelia_core.ml._knn.screens.codebook.kernels import Book
from janelia_core.ml._knn.screens.codebook.resolve import Wide
from janelia_core.ml._runtime.arrays import F32, F64
from janelia_core.ml._simd.row_halves import CHAINS, GROUP, SERVES
from janelia_core.ml._simd.row_lanes import CTRS, WORST

_UP = 1.0 + 2.0**-8  # outweighs all roundings of a bound
_MOST_EXPONENT = 100  # of a scale
_LEAST_REACH = 2.0**-20  # of scaled centres: of less, float32 might lose something
_COARSE = range(-4, -12, -1)  # exponents of steps beside the reach of the centres
_OF_NUMPY = (torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32)
_NO_HALVES = (((0, 0, CTRS), np.int32), ((0,), np.float32), ((0, 0, GROUP), np.float32), ((3,), np.float64))
_HEAD = 64  # centres that tell most data without a grid


class _Placed(NamedTuple):
    """Centres relative to a middle.

    Fields:
        middle: (d,).
        points: (n, d) centres, less the middle, times 2^exponent.
        exponent: See points.
        reach: The largest norm of points.
    """

    middle: F64
    points: F64
    exponent: int
    reach: float


def wide_of(ctrs: Points, form: int) -> Wide:
    """Return finite centres in float64, and how far order values can be off."""
    values = _float64(ctrs.block(0, len(ctrs)))
    d, largest = values.shape[1], float(np.abs(values).max(initial=0.0))
    bits = (51 - (d - 1).bit_length()) // 2
    step = _ceil_log2(largest) + 1 - bits if largest > 0 else 0
    on_grid = -400 < step < 400 and _divides(values, step)
    exact = (2.0 ** (step + bits), 2.0**-step) if on_grid else (-1.0, 1.0)
    if form == DISTANCE:
        errors = tuple(DistanceBound.of(d, exact=False))
    else:
        norm = largest * math.sqrt(d) * _UP
        errors = (gamma(d + 4, UNIT64) * norm * _UP, (d + 1) * 2.0**-1020 + norm * d * 2.0**-510)
    return Wide(form, values, np.array([*errors, *exact]))


def may_hold_copies(ctrs: Points) -> bool:
    """Tell whether any two points have the first coordinate in common."""
    first = np.sort(_float64(ctrs.block(0, len(ctrs))[:, 0]))
    return bool((first[1:] == first[:-1]).any())


def _float64(values: Tensor) -> F64:
    """Return values of any real type that float64 holds; NumPy starts no threads for that."""
    wide = values.numpy().astype(np.float64) if values.dtype in _OF_NUMPY else as_float64(values).numpy()
    return np.ascontiguousarray(wide)


def book_of(wide: Wide, dtype: Any) -> Book:
    """Return the words of centres, for rows of a type."""
    with np.errstate(all="ignore"):  # what leaves the type proves nothing
        return _book_of(wide, dtype)


def _book_of(wide: Wide, dtype: Any) -> Book:
    form, ctrs = wide.form, wide.ctrs
    if form == COSINE:
        ctrs = directions(torch.from_numpy(ctrs)).numpy()
    d = ctrs.shape[1]
    middle = ctrs.mean(axis=0) if form == DISTANCE else np.zeros(d)
    placed = _placed(ctrs, middle, dtype)
    step = None if form == COSINE else _step(ctrs, placed)
    if step is not None and form == DISTANCE:
        placed = _placed(ctrs, np.rint(middle * 2.0**-step) * 2.0**step, dtype)
    words = _words(placed, form)
    return Book(
        words=words,
        middle=placed.middle.astype(dtype),
        scale=np.array([2.0**placed.exponent if form == DISTANCE else 1.0], dtype),
        gaps=np.empty(0),
        sure=np.array([*_apart(placed, form, d), *_exact(placed, form, step)]),
        halves=_halves(placed, words, form),
    )


def gaps_of(wide: Wide, dtype: Any) -> Book:
    """Return the words of centres for distances that are summed as squares of gaps, for rows of a type.

    Where float32 holds rows and centres, nothing is taken from them.
    """
    ctrs, d = wide.ctrs, wide.ctrs.shape[1]
    with np.errstate(all="ignore"):
        held = dtype is np.float32 and np.array_equal(ctrs, ctrs.astype(np.float32))
        placed = _placed(ctrs, np.zeros(d) if held else ctrs.mean(axis=0), dtype)
        words = _words(placed, DISTANCE)
        words[:, 0] = np.where(words[:, 0] == WORST, WORST, 0.0)
        usable = (held and abs(placed.exponent) < _MOST_EXPONENT) or _LEAST_REACH <= placed.reach <= 2.0
        off = (0.0, 0.0) if held else (2.0**-22, 2.0**-22 * placed.reach + 2.0**-60)
        gaps = gamma(d + 4, UNIT32) * _UP, *(off if usable else (math.inf, math.inf))
        scale = np.array([2.0**placed.exponent], dtype)
    none = Halves(*(np.empty(shape, kind) for shape, kind in _NO_HALVES))
    unproven = np.array([math.inf, math.inf, -1.0, 1.0])
    return Book(words, placed.middle.astype(dtype), scale, np.array(gaps), unproven, none)


def _placed(ctrs: F64, middle: F64, dtype: Any) -> _Placed:
    """Return centres relative to a middle, as near as rows hold it, so that the largest has a norm near 1."""
    middle = middle.astype(dtype).astype(np.float64)
    points = ctrs - middle
    exponent = -_ceil_log2(float(np.abs(points).max(initial=0.0)) * math.sqrt(ctrs.shape[1]))
    exponent = min(max(exponent, -_MOST_EXPONENT), _MOST_EXPONENT)
    points = points * 2.0**exponent
    return _Placed(middle, points, exponent, math.sqrt(float(np.square(points).sum(axis=1).max())))


def _words(placed: _Placed, form: int) -> F32:
    n, d = placed.points.shape
    words = np.zeros((-(-n // CTRS) * CTRS, 1 + d), np.float32)
    words[n:, 0] = WORST
    words[:n, 1:] = placed.points
    if form == DISTANCE:
        words[:n, 0] = np.square(placed.points).sum(axis=1) * -0.5
    return np.ascontiguousarray(words.reshape(-1, CTRS, 1 + d).transpose(0, 2, 1))


def _apart(placed: _Placed, form: int, d: int) -> tuple[float, float]:
    """Return how far scores of a row of norm r have to be apart: the first times r, and the second."""
    if not _LEAST_REACH <= placed.reach <= 2.0:
        return math.inf, math.inf
    g = gamma(d + 9, UNIT32) * _UP
    lost = (d + 8) * 2.0**-60 * g  # of rows and products that underflow
    level = g * placed.reach**2 if form == DISTANCE else 0.0
    return 2.0 * g * placed.reach, level + lost


def _halves(placed: _Placed, words: F32, form: int) -> Halves:
    """Return the centres in bfloat16 too, where they are many enough and the machine multiplies that faster."""
    (n, d), per_group = placed.points.shape, GROUP // CTRS
    if not (SERVES and cost.halved(n, d) and math.isfinite(_apart(placed, form, d)[0])):
        return Halves(*(np.empty(shape, kind) for shape, kind in _NO_HALVES))
    more = -len(words) % per_group
    words = np.concatenate([words, np.zeros((more, *words.shape[1:]), np.float32)])
    words[len(words) - more :, 0] = WORST
    groups = words.reshape(-1, per_group, 1 + d, CTRS).transpose(0, 2, 1, 3).reshape(-1, 1 + d, GROUP)
    groups = np.pad(groups, ((0, 0), (0, -d % CHAINS), (0, 0)))
    bits = np.ascontiguousarray(words[:, 1:]).view(np.int32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
    held = rounded.view(np.float32).astype(np.float64).transpose(0, 2, 1).reshape(-1, d)[:n]
    lost = math.sqrt(float(np.square(placed.points - held).sum(axis=1).max()))
    halves = np.zeros((len(words), -(-d // 2), CTRS), np.int32)
    halves |= (rounded[:, ::2] >> 16) & 0xFFFF
    halves[:, : d // 2] |= rounded[:, 1::2]
    g, reach = gamma(d + 16, 2.0 * UNIT32) * _UP, placed.reach
    square = reach**2 if form == DISTANCE else 0.0
    sure = 2.0 * (reach + lost) * _UP, 2.0 * (lost + g * (reach + lost)) * _UP, g * square + (d + 16) * 2.0**-60
    return Halves(halves, np.ascontiguousarray(words[:, 0]).reshape(-1), np.ascontiguousarray(groups), np.array(sure))


def _step(ctrs: F64, placed: _Placed) -> int | None:
    """Return the exponent of the coarsest step of a few sizes that divides all centres; None: none does."""
    reach = _ceil_log2(placed.reach) - placed.exponent
    if not -_MOST_EXPONENT < reach < _MOST_EXPONENT or not _divides(ctrs, reach + _COARSE[-1]):
        return None
    return next(reach + finer for finer in _COARSE if _divides(ctrs, reach + finer))


def _exact(placed: _Placed, form: int, step: int | None) -> tuple[float, float]:
    """Return up to which norm of a row its scores are exact, and by what a step goes into 1; -1: of none."""
    if step is None or placed.reach == 0.0 or not _divides(placed.middle, step):
        return -1.0, 1.0
    own = 2.0 ** (step + placed.exponent)  # the step of scaled points
    half = placed.reach**2 / 2.0 if form == DISTANCE else 0.0
    norm = min((2.0**22 * own**2 - half) / placed.reach, 2.0**22 * own)
    return (norm if form == DISTANCE else norm * 2.0**-placed.exponent), 2.0**-step


def _divides(values: F64, exponent: int) -> bool:
    """Tell whether all values are multiples of 2^exponent."""
    for part in (values[:_HEAD], values):
        quotient = part * 2.0**-exponent
        # A quotient that underflows to zero is no whole number.
        if not ((quotient == np.rint(quotient)) & ((quotient != 0.0) | (part == 0.0))).all():
            return False
    return True


def _ceil_log2(value: float) -> int:
    """Return the least e with value < 2^e (0 for 0)."""
    return math.frexp(value)[1]
