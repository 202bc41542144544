"""How a call was made: in plain eager mode, or through a compiler, a tracer, a mode, torch.func or forward mode.

torch has no public way to ask these questions; each private name of torch that we use stands here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import has_torch_function
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

T = TypeVar("T")

_PLAIN = (Tensor, torch.nn.Parameter)

NOT_FOR_GRAPHS = tuple(getattr(torch.Tag, name) for name in ("cudagraph_unsafe",) if hasattr(torch.Tag, name))
"""Tags of operators that look at values on the host: a compiler must not record them in a CUDA graph."""

InDims = tuple[int | None, ...]
"""Which dimension of each argument counts the problems of a batch, for vmap; None: it is the same for all."""


class Context(Protocol):
    """What torch hands to the methods of a Function; `settings` are ours: the arguments that are no tensors."""

    settings: tuple[Any, ...]
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors for `backward`."""

    def save_for_forward(self, *tensors: Tensor) -> None:
        """Keep tensors for `jvp`."""


class Batch(Protocol):
    """What torch tells a rule of vmap."""

    batch_size: int


def keep(ctx: Context, tensors: Sequence[Tensor], settings: tuple[Any, ...] = ()) -> None:
    """Keep for `backward` and `jvp` what they need."""
    ctx.settings = settings
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def is_plain(*tensors: Tensor) -> bool:
    """Whether the tensors are ordinary ones with values, and nothing wants to see the operations on them.

    Then a search may read them without a detour through torch's dispatcher. Else it goes as one operator, which a
    compiler, tracer, mode or transform of torch takes whole.
    """
    return not (
        torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or is_observed(*tensors)
    ) and all(type(t) in _PLAIN and not t.is_meta for t in tensors)


def bare(t: Tensor) -> Tensor:
    """Return the values alone: a subclass would see every operation on them, those of other threads too."""
    return t.detach().as_subclass(Tensor)


def is_overridden(*tensors: object) -> bool:
    """Whether a subclass, a mode or a stand-in of torch.fx, which is no tensor, wants the call as a whole.

    Dynamo would not come back from `handle_torch_function`: what it compiles dispatches operation by operation.
    """
    return not torch.compiler.is_compiling() and has_torch_function(tensors)


def is_stand_in(x: object) -> bool:
    """Whether x is no tensor but takes the place of one, as a proxy of torch.fx does: it wants the call as a whole."""
    return not isinstance(x, Tensor) and has_torch_function((x,))


def is_spread(*tensors: object) -> bool:
    """Whether any is a DTensor of torch.distributed, which is loaded by whoever has one."""
    return any(
        type(t) not in _PLAIN
        and type(t).__name__ == "DTensor"
        and type(t).__module__.startswith("torch.distributed.tensor")
        for t in tensors
    )


def is_observed(*tensors: Tensor) -> bool:
    """Whether a tracer, dispatch mode or batched gradient must see torch operations."""
    return (
        torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        or torch._C._len_torch_dispatch_stack() > 0
        or is_in_torch_dispatch_mode()  # make_fx(pre_dispatch=True) keeps its mode elsewhere
        or any(map(torch._C._functorch.is_legacy_batchedtensor, tensors))
    )


def is_transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is at work, and wants Functions that know of it.

    `Function.apply` asks the first too, and the public form of the second, `unpack_dual`, fails under batched
    gradients. torch.func.functionalize takes operators alone.
    """
    if torch._C._are_functorch_transforms_active():
        return transforms()[-1:] != ("Functionalize",)
    return forward_ad._current_level >= 0


def transforms() -> tuple[str, ...]:
    """Return the transforms of torch.func at work, the innermost last. Dynamo asks once, while it traces."""
    return tuple(transform.key().name for transform in torch._C._functorch.get_interpreter_stack() or ())


# As torch._dynamo.assume_constant_result does, whose import takes two seconds.
transforms._dynamo_marked_constant = True  # type: ignore[attr-defined]


def is_differentiated() -> bool:
    """Whether a transform of torch.func takes a derivative."""
    names = transforms()
    return "Grad" in names or "Jvp" in names


_BREAKS_SAY_WHY = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9)


def break_graph(why: str) -> None:
    """Have Dynamo run what follows uncompiled; where fullgraph forbids that, its error says why."""
    if _BREAKS_SAY_WHY:
        torch._dynamo.graph_break(msg=why)
    else:
        torch._dynamo.graph_break()


@contextmanager
def saved_primals(ctx: Context) -> Iterator[list[Tensor]]:
    """Yield what was saved without its tangent at this level; outer levels differentiate what follows.

    torch runs `jvp` with forward mode off at every level: without this a jvp of a jvp of a jvp is silently 0.
    """
    with forward_ad._set_fwd_grad_enabled(True):
        yield [forward_ad.unpack_dual(t).primal for t in ctx.saved_tensors]  # type: ignore[no-untyped-call]


def batch_first(info: Batch, in_dims: InDims, *tensors: Tensor) -> list[Tensor]:
    """Bring every batch to dimension 0, expanding tensors that have none."""
    return [
        t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)
        for t, d in zip(tensors, in_dims, strict=True)
    ]


def one_by_one(function: Callable[..., T], info: Batch, in_dims: InDims, args: tuple[Any, ...]) -> list[T]:
    """Call the function for each problem of a batch."""
    batches = [arg if dim is None else arg.movedim(dim, 0) for arg, dim in zip(args, in_dims, strict=True)]
    return [
        function(*(arg if dim is None else arg[b] for arg, dim in zip(batches, in_dims, strict=True)))
        for b in range(info.batch_size)
    ]
