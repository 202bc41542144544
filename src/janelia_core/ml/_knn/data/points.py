"""Stored values of the rows of a tensor, whatever its dtype, strides and device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from janelia_core.ml._runtime.arrays import Reals
from janelia_core.ml._runtime.machine import has_float64

_AS_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
IN_FLOAT32 = (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16)
"""Dtypes of which float32 holds all values."""
_WIDE = (torch.int64, torch.uint64)  # dtypes with values that float64 cannot hold


@dataclass(frozen=True)
class Points:
    """The rows of a (n, d) tensor, or of the subset `subset` of them, read block by block and never copied whole.

    Attributes:
        values: (n, d) tensor as the caller stored it.
        subset: ascending int64 positions into values, or None for all rows (centre dropout draws a subset).
        chunk: Coordinates that a stage may hold at a time beside its result; bounds the temporaries of all stages.
    """

    values: Tensor
    subset: Tensor | None = None
    chunk: int = 1 << 18

    def __len__(self) -> int:
        return self.values.shape[0] if self.subset is None else self.subset.shape[0]

    @property
    def d(self) -> int:
        """Number of coordinates."""
        return self.values.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the values are stored."""
        return self.values.device

    def block(self, start: int, stop: int, step: int = 1) -> Tensor:
        """Return every step-th of the rows start .. stop-1 as stored, a view where possible."""
        part = slice(start, stop, step)
        return self.values[part] if self.subset is None else picked_rows(self.values, self.subset[part])

    def chunks(self, share: int = 1) -> Iterator[tuple[int, int]]:
        """Cut the rows into parts (start, stop) of at most chunk / share coordinates, or of one row."""
        step = max(1, self.chunk // share // max(1, self.d))
        return ((start, min(start + step, len(self))) for start in range(0, len(self), step))

    def row_numbers(self, positions: Tensor) -> Tensor:
        """Translate positions among these points to row numbers of `values`; -1 stays."""
        if self.subset is None:
            return positions
        positions = positions.to(self.subset.device)
        return torch.where(positions < 0, positions, self.subset[positions.clamp(min=0)])

    def take(self, row_numbers: Tensor) -> Tensor:
        """Return the rows of `values` (any shape of int64 row numbers) as stored: row_numbers.shape + (d,)."""
        return picked_rows(self.values, row_numbers.to(self.values.device))

    def finite(self) -> Points:
        """Return the points without infinite or NaN coordinates."""
        kept = [
            start + torch.isfinite(as_float64(self.block(start, stop))).all(dim=1).nonzero()[:, 0]
            for start, stop in self.chunks()
        ]
        positions = torch.cat([torch.empty(0, dtype=torch.int64, device="cpu"), *(part.cpu() for part in kept)]).to(
            self.device
        )
        return replace(self, subset=self.row_numbers(positions))


def picked_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Return rows of values; CUDA picks none of wide unsigned integers, so they are read as signed ones."""
    signed = _AS_SIGNED.get(values.dtype)
    return values[rows] if signed is None else values.view(signed)[rows].view(values.dtype)


def has_infinities(points: Points) -> bool:
    """Tell whether any value is infinite."""
    blocks = (points.block(*chunk) for chunk in points.chunks())
    return any(bool(torch.isinf(as_float64(block)).any()) for block in blocks)


def is_wide(values: Tensor) -> bool:
    """Tell whether float64 may be unable to hold the stored values."""
    return values.dtype in _WIDE


def float64_device(device: torch.device) -> torch.device:
    """Return the device on which float64 work for tensors on `device` is done: that itself, if it knows float64."""
    return device if has_float64(device) else torch.device("cpu")


def as_float64(values: Tensor) -> Tensor:
    """Return the values in float64: exact for all dtypes but 64-bit integers, which are rounded once."""
    if values.is_cpu or has_float64(values.device):
        return values.to(dtype=torch.float64)
    return values.cpu().to(torch.float64)


def as_stored(values: Tensor) -> Tensor:
    """Return the values, as NumPy can read them: without a derivative, and no view that is negated when it is read.

    Torch makes such views of imaginary parts of conjugates. Every tensor of a caller's goes through here, or through
    `as_array`, before kernels see it.
    """
    return (values.detach() if values.requires_grad else values).resolve_neg()


def as_array(values: Tensor) -> Reals:
    """Return stored values on the CPU as kernels take them: in C order."""
    array: Reals = as_stored(values).contiguous().numpy()
    return array


def plain_nan(values: Tensor) -> Tensor:
    """Return values whose NaN sort behind all others: CUDA sorts those first that have a sign bit, as inf - inf has."""
    return values.masked_fill(values.isnan(), torch.nan) if values.is_cuda else values


def are_multiples(values: Tensor, step: float) -> bool:
    """Tell whether all finite values, float32 or float64, are multiples of a power of two."""
    return bool(multiples(values, step))


def multiples(values: Tensor, step: float) -> Tensor:
    """Return the same as a bool (,) where the values are."""
    quotient = values / step
    # A quotient that underflows to zero is no whole number.
    whole = (quotient == quotient.round()) & ((quotient != 0) | (values == 0))
    return (whole | ~is_finite(values)).all()


def is_finite(values: Tensor) -> Tensor:
    """Return what torch.isfinite does of floats, in half as many operations."""
    return values.abs() < torch.inf


def halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Split 64-bit integers v = high + low with both parts exact in float64 and of the sign of v, |low| < 2^32."""
    bits = values.to(float64_device(values.device)).view(torch.int64)
    if values.dtype == torch.uint64:
        return ((bits >> 32) & 0xFFFFFFFF).to(torch.float64) * 2.0**32, (bits & 0xFFFFFFFF).to(torch.float64)
    low = bits.fmod(1 << 32)
    return (bits - low).to(torch.float64), low.to(torch.float64)


def without_subnormals(x: Tensor, ctrs: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and ctrs as they are or, where either holds subnormals, both times 2^60 in float64.

    For threads that flush subnormals: the result holds none, so its values can be computed with, and the common
    factor changes no order.
    """
    if not any(_has_subnormals(values) for values in (x, ctrs)):
        return x, ctrs
    both = lifted(x), lifted(ctrs)
    for name, before, after in zip(("x", "ctrs"), (x, ctrs), both, strict=True):
        if bool((torch.isinf(after) & ~torch.isinf(as_float64(before))).any()):
            raise ValueError(
                f"{name} holds values above 2^963 beside subnormal ones, and this thread flushes subnormals to zero; "
                "call torch.set_flush_denormal(False) first"
            )
    return both


_SIGNIFICANDS = {torch.float64: (torch.int64, 52), torch.float32: (torch.int32, 23)}


def _bits(values: Tensor) -> tuple[Tensor, int]:
    if values.dtype == torch.bfloat16:
        return values.contiguous().view(torch.int16).to(torch.int32) << 16, 23
    integer, significand = _SIGNIFICANDS[values.dtype]
    return values.contiguous().view(integer), significand


def _subnormal(bits: Tensor, significand: int) -> Tensor:
    magnitude = bits & torch.iinfo(bits.dtype).max
    return (magnitude > 0) & (magnitude >> significand == 0)


def _has_subnormals(values: Tensor) -> bool:
    if values.dtype not in (torch.bfloat16, *_SIGNIFICANDS):
        return False  # float64 holds the subnormals of narrower types as normal numbers
    return bool(_subnormal(*_bits(values)).any())


def lifted(values: Tensor) -> Tensor:
    """Return values * 2^60 in float64, not flushed: reading subnormals from their bits."""
    if not _has_subnormals(values):
        return as_float64(values) * 2.0**60
    bits, significand = _bits(values)
    units = (bits & torch.iinfo(bits.dtype).max).to(torch.float64)
    unit = 2.0 ** (60 - (1074 if significand == 52 else 149))
    small = torch.where(bits < 0, -units, units) * unit
    return torch.where(_subnormal(bits, significand), small, as_float64(values) * 2.0**60)
