"""The ways in which PyTorch runs code: compiled, traced, exported, transformed, through modes and subclasses.

A way meets a call with one pair of tensors (to compile, to trace) and answers for another.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

from calls import Function, Pair, seed

Way = Callable[[Function, Pair, Pair], tuple[Tensor, ...]]


class AsModule(nn.Module):
    def __init__(self, run: Function) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor, ctrs: Tensor) -> tuple[Tensor, ...]:
        return self.run(x, ctrs)


class Labelled(Tensor):
    """A subclass with torch's default behaviour."""


class Wrapped(Tensor):
    """A subclass that wraps a tensor, as those of quantization and sharding do: it has no memory of its own."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        made: Any = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, strides=inner.stride())
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        bare = tree_map(lambda a: a.inner if isinstance(a, Wrapped) else a, (args, kwargs or {}))
        return tree_map(lambda a: Wrapped(a) if isinstance(a, Tensor) else a, func(*bare[0], **bare[1]))


class SeesOperations(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class SeesFunctions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def compiled(**how: Any) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        fast = torch.compile(run, **how)
        fast(*first)
        seed()
        return fast(*second)

    return way


def compiled_training(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    fast = torch.compile(run, backend="aot_eager", fullgraph=True)
    for pair in (first, second):
        pair = [t.clone().requires_grad_() for t in pair]
        seed()
        out = fast(*pair)
        if out[0].requires_grad:
            out[0].sum().backward()
            assert pair[0].grad.isfinite().all()
    return out


def compiled_vmap(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    fast = torch.compile(torch.vmap(run, randomness="same"), backend="aot_eager", fullgraph=True)
    seed()
    return tuple(o[1] for o in fast(*(torch.stack(pair) for pair in zip(first, second, strict=True))))


def traced(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    trace, file = torch.jit.trace(run, first, check_trace=False), io.BytesIO()
    torch.jit.save(trace, file)
    file.seek(0)
    seed()
    return tuple(torch.jit.load(file)(*second))


def exported(strict: bool) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        dynamic = {"x": {0: Dim("n", min=2)}, "ctrs": None}
        program, file = torch.export.export(AsModule(run), first, dynamic_shapes=dynamic, strict=strict), io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        seed()
        return torch.export.load(file).module()(*second)

    return way


def graphed(**how: Any) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        graph = make_fx(run, **how)(*first)
        seed()
        return graph(*second)

    return way


def symbolic(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    graph = torch.fx.symbolic_trace(AsModule(run))
    seed()
    return graph(*second)


def batched(in_dims: tuple[int | None, int | None], out_dim: int = 0) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        args = [
            there if dim is None else torch.stack([other, there], dim)
            for other, there, dim in zip(first, second, in_dims, strict=True)
        ]
        seed()
        out = torch.vmap(run, in_dims, out_dim, randomness="same")(*args)
        return tuple(o.select(out_dim, 1) for o in out)

    return way


def nested(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    xs, ctrs = (torch.stack(pair) for pair in zip(first, second, strict=True))
    inner = lambda x: torch.vmap(lambda c: run(x, c), randomness="same")(ctrs)  # noqa: E731
    seed()
    return tuple(o[1, 1] for o in torch.vmap(inner, randomness="same")(xs))


def around(transform: Callable[[Callable[[Tensor], Any], Tensor], tuple[Tensor, ...]]) -> Way:
    """Take a derivative of what the results add up to, and hand out the results."""

    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        def value(x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            out = run(x, second[1])
            return sum((o.sum() if o.is_floating_point() else 0 * o.sum().float()) for o in out), out

        seed()
        return transform(value, second[0])

    return way


def converted(convert: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        seed()
        return tuple(map(back, run(convert(second[0]), second[1])))

    return way


def within(context: Callable[[], Any]) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        seed()
        with context():
            return run(*second)

    return way


def recomputed(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    x, ctrs = (t.clone().requires_grad_() for t in second)
    seed()
    out = checkpoint(run, x, ctrs, use_reentrant=False)
    if out[0].requires_grad:
        out[0].sum().backward()
    return out


WAYS: dict[str, Way] = {
    "as it is": lambda run, first, second: (seed(), run(*second))[1],
    "compile fullgraph": compiled(backend="aot_eager", fullgraph=True),
    "compile dynamic": compiled(backend="aot_eager", fullgraph=True, dynamic=True),
    "compile and train": compiled_training,
    "compile vmap": compiled_vmap,
    "jit.trace": traced,
    "export": exported(strict=False),
    "export strict": exported(strict=True),
    "make_fx": graphed(),
    "make_fx symbolic": graphed(tracing_mode="symbolic"),
    "make_fx pre_dispatch": graphed(pre_dispatch=True),
    "functionalize": lambda run, first, second: (seed(), torch.func.functionalize(run)(*second))[1],
    "fx.symbolic_trace": symbolic,
    "vmap over x": batched((0, None)),
    "vmap over centres": batched((None, 0)),
    "vmap over both": batched((0, 0)),
    "vmap over other dimensions": batched((1, 2), out_dim=-1),
    "vmap in vmap": nested,
    "func.grad": around(lambda value, x: torch.func.grad(value, has_aux=True)(x)[1]),
    "func.vjp": around(lambda value, x: torch.func.vjp(value, x, has_aux=True)[2]),
    "func.jvp": around(lambda value, x: torch.func.jvp(value, (x,), (x,), has_aux=True)[2]),
    "func.jacrev": around(lambda value, x: torch.func.jacrev(value, has_aux=True)(x)[1]),
    "func.jacfwd": around(lambda value, x: torch.func.jacfwd(value, has_aux=True, randomness="same")(x)[1]),
    "vmap of func.grad": around(
        lambda value, x: tuple(
            o[0] for o in torch.vmap(torch.func.grad(value, has_aux=True), randomness="same")(x[None])[1]
        )
    ),
    "a subclass": converted(lambda t: t.as_subclass(Labelled), lambda t: t.as_subclass(Tensor)),
    "a wrapper": converted(Wrapped, lambda t: t.inner),
    "a dispatch mode": within(SeesOperations),
    "a function mode": within(SeesFunctions),
    "another default device": within(lambda: torch.device("meta")),
    "inference_mode": within(torch.inference_mode),
    "autocast": within(lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    "checkpoint": recomputed,
    "gradients wanted": converted(lambda t: t.clone().requires_grad_(), lambda t: t),
    "a negative view": converted(lambda t: torch.complex(t, -t).conj().imag, lambda t: t),
}
