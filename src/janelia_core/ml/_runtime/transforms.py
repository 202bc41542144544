"""What an autograd Function needs to know of torch.func, vmap and forward-mode differentiation.

torch has no public way to ask these questions; each private name of torch that we use stands here, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def is_transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is at work.

    `Function.apply` asks the first too, and the public form of the second, `unpack_dual`, fails under batched
    gradients.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


@contextmanager
def saved_primals(ctx: Any) -> Iterator[list[Tensor]]:
    """Yield what was saved without its tangent at this level; outer levels differentiate what follows.

    torch runs `jvp` with forward mode off at every level: without this a jvp of a jvp of a jvp is silently 0.
    """
    with forward_ad._set_fwd_grad_enabled(True):
        yield [forward_ad.unpack_dual(t).primal for t in ctx.saved_tensors]  # type: ignore[no-untyped-call]


def batch_first(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> list[Tensor]:
    """Bring every batch to dimension 0, expanding tensors that have none."""
    return [
        t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)
        for t, d in zip(tensors, in_dims, strict=True)
    ]
