"""What an estimator is given, checked by scikit-learn's own means, and the answer in kind."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # scikit-learn before 1.6

    def validate_data(estimator: Any, points: Any, **options: Any) -> Any:
        """Check points, as newer versions do."""
        return estimator._validate_data(points, **options)


def checked_points(estimator: Any, given: Any, *, fits: bool) -> Tensor:
    """Return rows (n, d) in float64, which holds exactly what float32 and half precision store.

    Args:
        estimator: Whose number and names of features these are, or become.
        given: (n, d) of anything that scikit-learn takes as a dense array, or a tensor, which stays on its device and
            in its graph of gradients.
        fits: The rows are kept: arrays are copied, so that nothing changes under the search. (Of a tensor torch counts
            the changes: they are an error at the next search.)
    """
    if not isinstance(given, Tensor):
        array = validate_data(estimator, given, reset=fits, dtype=np.float64, order="C", copy=fits)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    if given.is_complex():
        raise ValueError(f"Complex data not supported: {given.dtype}")
    points = given.to(torch.float64)
    on_cpu = points.device.type == "cpu"
    # Of another device scikit-learn is told the shape alone: nothing is copied from there.
    seen = points.detach().numpy() if on_cpu else np.broadcast_to(np.float64(0), tuple(points.shape))
    validate_data(estimator, seen, reset=fits)
    if not (on_cpu or bool(points.isfinite().all())):
        raise ValueError("Input X contains NaN or infinity.")
    return points


def in_kind(values: Tensor, tensors: bool = False) -> Any:
    """Return an answer as a tensor or as an array."""
    return values if tensors else values.detach().cpu().numpy()


def in_rows(values: Tensor, offsets: Tensor, tensors: bool) -> Any:
    """Return what each row has of values (p,): a tuple of tensors, or an array (n,) of arrays, as scikit-learn does."""
    if tensors:
        return torch.split(values, offsets.diff().tolist())
    flat, rows = in_kind(values), np.empty(len(offsets) - 1, dtype=object)
    for row, (start, stop) in enumerate(pairwise(offsets.tolist())):
        rows[row] = flat[start:stop]
    return rows
