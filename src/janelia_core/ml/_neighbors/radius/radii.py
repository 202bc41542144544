"""Radii, checked: one number, or one for each row; as they are stored, in float64."""

from __future__ import annotations

import math
import numbers
from fractions import Fraction

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import as_float64, float64_device, is_wide
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._neighbors.groups import leading_shape
from janelia_core.ml._runtime.transforms import is_plain


def checked_radii(r: object, x: Tensor, ctrs: Tensor, metric: str) -> Tensor:
    """Return the radii (n,) float64 of the rows of x (..., n, d), flattened as `groups.flatten` does.

    One number takes no memory.

    Raises:
        TypeError: r is no real number, nor a tensor of real numbers.
        ValueError: It is NaN, or negative where no distance is, or float64 does not hold it, or its shape does not fit.
    """
    shape, device = tuple(x.shape[:-1]), float64_device(x.device)
    if isinstance(r, Tensor):
        if r.dtype == torch.bool or r.is_complex() or r.is_quantized:
            raise TypeError(f"r must hold real numbers, got dtype {r.dtype}")
        if r.ndim and r.device != x.device:
            raise ValueError(f"r must be on x's device {x.device}, got {r.device}")
        radii = as_float64(r.detach())
        if is_wide(r) and is_plain(r) and not bool((radii.to(r.dtype) == r).all()):
            raise ValueError("r holds integers that float64 does not hold; round them: r.to(torch.float64)")
        _check_values(radii, metric)
    else:
        if isinstance(r, bool) or not isinstance(r, numbers.Real):
            raise TypeError(f"r must be a number, or a tensor of one for each row of x, got {type(r).__name__}: {r!r}")
        if isinstance(r, numbers.Rational) and not _is_held(r):
            raise ValueError(f"r = {r} is a number that float64 does not hold; round it: float(r)")
        _check_values(float(r), metric)
        radii = torch.full((), float(r), dtype=torch.float64, device=device)
    try:
        radii = radii.to(device).expand(shape if radii.ndim else ())
    except RuntimeError:
        raise ValueError(f"r must be one number, or one for each row of x, {shape}, got {tuple(radii.shape)}") from None
    whole = (*leading_shape(x, ctrs), shape[-1])  # of batches that ctrs alone has, too
    return radii.expand(whole).reshape(-1) if radii.ndim else radii.expand(math.prod(whole))


def _is_held(r: numbers.Rational) -> bool:
    try:
        return Fraction(float(r)) == r
    except OverflowError:
        return False


def _check_values(radii: Tensor | float, metric: str) -> None:
    signed = metric_named(metric).signed
    expected = "r must be a number, not NaN" if signed else f"r must be at least 0, as distances by {metric!r} are"
    if not isinstance(radii, Tensor):
        fits, value = radii == radii if signed else radii >= 0, radii
    else:
        right = ~radii.isnan() if signed else radii >= 0
        if not is_plain(radii):
            torch._assert_async(right.all(), expected)
            return
        fits = bool(right.all())
        value = 0.0 if fits else float(radii[~right].flatten()[0])
    if not fits:
        raise ValueError(f"{expected}, got {value}")
