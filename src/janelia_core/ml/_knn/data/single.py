"""Coordinates in float32, what is lost by it, and whether distances in it are exact."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points, are_multiples
from janelia_core.ml._knn.data.seen import Steps
from janelia_core.ml._knn.metrics.metric import DISTANCE, MANHATTAN
from janelia_core.ml._runtime.arrays import F32, F64

BLOCK = 1 << 13
"""Rows looked at together."""
_HEAD = 64  # rows that tell most data without a lattice
_FINEST = -50  # exponent of a step
_NARROW = (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.bool)


def is_narrow(dtype: torch.dtype) -> bool:
    """Tell whether float32 holds all values of a type."""
    return dtype in _NARROW


def as_float32(values: Tensor) -> tuple[F32, F64, float]:
    """Return float32 coordinates, the float64 ones if they differ (else none), the largest residual norm."""
    if values.dtype in _NARROW:
        return values.to(torch.float32).contiguous().numpy(), np.empty((0, 0)), 0.0
    raw = values.to(torch.float64).contiguous().numpy()
    z = raw.astype(np.float32)
    if np.array_equal(raw, z):
        return z, np.empty((0, 0)), 0.0
    return z, raw, float(residuals(raw, z).max(initial=0.0))


def is_float32(values: Tensor) -> bool:
    """Tell whether float32 holds all values."""
    return values.dtype in _NARROW or all(
        len(as_float32(values[i : i + BLOCK])[1]) == 0 for i in range(0, len(values), BLOCK)
    )


def residuals(raw: F64, z: F32) -> F64:
    """Return upper bounds of |raw - z| for each row."""
    difference = raw - z
    norms: F64 = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    vanished = raw.shape[1] * 2.0**-530  # squares below 2^-1060
    bounds: F64 = norms * (1.0 + raw.shape[1] * 2.0**-50) + vanished
    return bounds


class Lattice:
    """On which powers of two some centres lie, as far as rows have asked.

    Args:
        ctrs: Finite centres, all of which float32 holds.
    """

    def __init__(self, ctrs: Points) -> None:
        self._ctrs, self._steps = ctrs, Steps()
        self._ends: tuple[float, float] | None = None

    def holds(self, x: Tensor, form: int) -> bool:
        """Tell whether rows and centres, which float32 holds, lie on a lattice so coarse that keys are exact."""
        if not self.may_hold(x, form):
            return False
        rows = [x[i : i + BLOCK] for i in range(0, len(x), BLOCK)]
        self._ends = self._ends or _joined(map(_ends_of, self._blocks()))
        exponent = _coarse_enough(self._ends, _joined(map(_ends_of, rows)), self._ctrs.d, form)
        if exponent is None:
            return False
        step = exponent  # for the function below, which would forget that it is one
        own = self._steps.divides(step, lambda: all(_divides(block, step) for block in self._blocks()))
        return own and all(_divides(block, step) for block in rows)

    def may_hold(self, x: Tensor, form: int) -> bool:
        """Tell whether the first of them do, which is seen sooner than a worker wakes."""
        heads = [as_float32(block)[0] for block in (self._ctrs.block(0, _HEAD), x[:_HEAD])]
        ends = [(float(head.min()), float(head.max())) for head in heads]
        exponent = _coarse_enough(ends[0], ends[1], self._ctrs.d, form)
        if exponent is None:
            return False
        with np.errstate(all="ignore"):
            quotients = [head * 2.0**-exponent for head in heads]  # one that overflows or vanishes may be whole
        return all(np.array_equal(quotient, np.rint(quotient)) for quotient in quotients)

    def _blocks(self) -> Iterator[Tensor]:
        return (self._ctrs.block(i, i + BLOCK) for i in range(0, len(self._ctrs), BLOCK))


def _ends_of(block: Tensor) -> tuple[float, float]:
    values = as_float32(block)[0]
    return float(values.min()), float(values.max())


def _joined(ends: Iterable[tuple[float, float]]) -> tuple[float, float]:
    lows, highs = zip(*ends, strict=True)
    return min(lows), max(highs)


def _coarse_enough(one: tuple[float, float], other: tuple[float, float], d: int, form: int) -> int | None:
    """Return the finest exponent of steps that keep keys exact for values between these ends; None: there is none."""
    low, high = _joined((one, other))
    if high == low:
        return _FINEST if low == 0.0 else math.frexp(low)[1] - 24  # float32 has 24 bits
    if form == DISTANCE:  # d (spread / step)^2 < 2^24
        exponent = int(np.ceil(np.log2((high - low) / (4095.0 / np.sqrt(d)))))
    else:  # spread / step < 2^24, for sums d times that; no rounding brings a product below a power of two
        exponent = math.frexp((high - low) * (d if form == MANHATTAN else 1))[1] - 24
    return exponent if _FINEST <= exponent <= -_FINEST else None


def _divides(block: Tensor, exponent: int) -> bool:
    return are_multiples(_in_float32(block), 2.0**exponent)


def _in_float32(values: Tensor) -> Tensor:
    return torch.from_numpy(as_float32(values)[0])
