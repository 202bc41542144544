"""Checks of knn's arguments: every error names the argument, what was received and what is expected."""

from __future__ import annotations

import numbers

import torch
from torch import Tensor

from janelia_core.ml._knn.data.mask import Allowed
from janelia_core.ml._knn.face import checked_pair, checked_values
from janelia_core.ml._neighbors.groups import leading_shape
from janelia_core.ml._runtime.transforms import is_plain

Mask = Tensor | Allowed

_INTEGERS = (torch.int64, torch.int32)


def check_points(x: object, ctrs: object) -> None:
    """Check that x (..., n_smps, d) and ctrs (..., n_ctrs, d) can be compared."""
    if isinstance(ctrs, numbers.Integral) and not isinstance(ctrs, bool):
        raise TypeError(
            f"ctrs must be a torch.Tensor or None, got {type(ctrs).__name__}: {ctrs}; k comes third: write "
            f"knn(x, k={ctrs}) for neighbours among x itself, or knn(x, ctrs, {ctrs})"
        )
    if isinstance(ctrs, Tensor) and ctrs.ndim == 1 and ctrs.dtype in _INTEGERS:
        raise ValueError(
            f"ctrs must have shape (..., n_ctrs, d), got {tuple(ctrs.shape)} {ctrs.dtype}; if it tells the batch of "
            "each row, name it: knn(x, k=k, x_batch=batch), knn_graph(x, k, x_batch=batch)"
        )
    for name, value, shape in (("x", x, "(..., n_smps, d)"), ("ctrs", ctrs, "(..., n_ctrs, d)")):
        checked_values(name, value, shape)
        assert isinstance(value, Tensor)
        if value.ndim < 2:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    assert isinstance(x, Tensor)
    assert isinstance(ctrs, Tensor)
    checked_pair(x, ctrs)
    if x.ndim == ctrs.ndim == 2:
        return
    try:
        leading_shape(x, ctrs)
    except RuntimeError:
        raise ValueError(
            "the leading dimensions of x and ctrs must be equal or broadcast, "
            f"got x {tuple(x.shape)} and ctrs {tuple(ctrs.shape)}"
        ) from None


def check_switch(name: str, value: object) -> None:
    """Check that value is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}: {value!r}")


def check_centres(ctrs: object) -> None:
    """Check that ctrs (n_ctrs, d) can be a module's centres."""
    checked_values("ctrs", ctrs, "(n_ctrs, d)")
    assert isinstance(ctrs, Tensor)
    if ctrs.ndim != 2:
        raise ValueError(f"ctrs must have shape (n_ctrs, d), got {tuple(ctrs.shape)}")


def check_batches(x: Tensor, ctrs: Tensor, x_batch: object, ctrs_batch: object) -> None:
    """Check the vectors that say to which batch each row of x (n, d) and of ctrs (m, d) belongs."""
    if (x_batch is None) != (ctrs_batch is None):
        missing, given = ("x_batch", "ctrs_batch") if x_batch is None else ("ctrs_batch", "x_batch")
        raise ValueError(f"x_batch and ctrs_batch come together, got {given} without {missing}")
    for name, of, batch, values in (("x_batch", "x", x_batch, x), ("ctrs_batch", "ctrs", ctrs_batch, ctrs)):
        if batch is None:
            continue
        _check_integers(name, batch)
        assert isinstance(batch, Tensor)
        if values.ndim != 2 or batch.shape != values.shape[:1]:
            raise ValueError(
                f"{name} must have shape (n,) for {of} of shape (n, d), "
                f"got {tuple(batch.shape)} for {of} {tuple(values.shape)}"
            )
        _check_device(name, batch, x)


def check_lengths(name: str, lengths: object, of: str, values: Tensor) -> None:
    """Check the number of rows that count in each batch of values (..., n, d)."""
    if lengths is None:
        return
    _check_integers(name, lengths)
    assert isinstance(lengths, Tensor)
    if values.ndim < 3 or lengths.shape != values.shape[:-2]:
        raise ValueError(
            f"{name} must have the leading dimensions of {of}, one length a batch: {tuple(values.shape[:-2])} "
            f"for {of} {tuple(values.shape)}, got {tuple(lengths.shape)}"
        )
    _check_device(name, lengths, values)
    fits = ((lengths >= 0) & (lengths <= values.shape[-2])).all()
    message = f"{name} must be between 0 and {values.shape[-2]}, the number of rows of each batch of {of}"
    if not is_plain(lengths):
        torch._assert_async(fits, message)
    elif not fits:
        raise ValueError(f"{message}, got {lengths.min()} to {lengths.max()}")


def check_mask(mask: object, x: Tensor, ctrs: Tensor) -> None:
    """Check a mask: (n_ctrs,), (..., n_smps, n_ctrs), or a callable for x (n, d) and ctrs (m, d)."""
    if mask is None:
        return
    if not isinstance(mask, Tensor):
        if not callable(mask):
            raise TypeError(f"mask must be a bool tensor or a callable, got {type(mask).__name__}")
        if x.ndim > 2 or ctrs.ndim > 2:
            raise ValueError(
                "a callable mask numbers rows and centres of x (n, d) and ctrs (m, d), "
                f"got x {tuple(x.shape)} and ctrs {tuple(ctrs.shape)}; give x_batch and ctrs_batch, or a tensor"
            )
        return
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be of dtype torch.bool, True where allowed, got {mask.dtype}")
    _check_device("mask", mask, x)
    full = (*leading_shape(x, ctrs), x.shape[-2], ctrs.shape[-2])
    if mask.shape == full[-1:]:
        return
    fits = 2 <= mask.ndim <= len(full) and all(
        a in (1, b) for a, b in zip(reversed(mask.shape), reversed(full), strict=False)
    )
    if not fits or mask.shape[-1] != full[-1]:
        raise ValueError(
            f"mask must have shape (n_ctrs,) = {full[-1:]} or broadcast to (..., n_smps, n_ctrs) = {full}, "
            f"got {tuple(mask.shape)}"
        )


def _check_integers(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be an integer torch.Tensor, got {type(value).__name__}")
    if value.dtype not in _INTEGERS:
        raise TypeError(f"{name} must be an integer torch.Tensor, int64 or int32, got {value.dtype}")


def _check_device(name: str, value: Tensor, x: Tensor) -> None:
    if value.device != x.device:
        raise ValueError(f"{name} must be on x's device {x.device}, got {value.device}")
