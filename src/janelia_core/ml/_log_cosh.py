"""log(cosh(x)), relatively accurate everywhere."""

from __future__ import annotations

import torch
from torch import Tensor


def log_cosh(x: Tensor) -> Tensor:
    """Return log(cosh(x)), element by element, without overflow or cancellation.

    Uses log cosh x = log(1 + 2 sinh(x/2)^2) for small |x| and |x| - log 2 + log1p(exp(-2|x|)) for large.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}: {x!r}")
    if not x.is_floating_point():
        x = x.to(torch.get_default_dtype())
    a = x.abs()
    half = torch.sinh(0.5 * a.clamp(max=1.0))
    return torch.where(
        a < 1.0, torch.log1p(2.0 * half * half), a - 0.6931471805599453 + torch.log1p(torch.exp(-2.0 * a))
    )
