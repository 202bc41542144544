"""Evaluate an elementwise formula: at once, or for a large CPU tensor block by block over threads.

    evaluate --+-- other devices, compilers, tensor subclasses, float64 ---> torch operations
               +-- a CUDA tensor --> one launch of a Triton kernel, where that is there
               +-- a small CPU tensor --> a shorter formula in float64, where there is one
               +-- a large CPU tensor --> blocks --+-- a Numba kernel, one pass over memory
                                                  +-- torch operations within a cache-sized block

Numba is imported when the first large CPU tensor arrives, never before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._log_cosh.formulas import CPU_TENSORS, FLOATS, Formula
from janelia_core.ml._log_cosh.triton import elements
from janelia_core.ml._runtime.device_kernels import launched
from janelia_core.ml._runtime.kernels import may_serve, optional_kernels
from janelia_core.ml._runtime.transforms import is_observed
from janelia_core.ml._runtime.workers import shared

LARGE = 1 << 16
"""Elements from which a CPU tensor goes block by block; 256 KiB of float32, about a core's second cache."""
KERNEL_BLOCK = 1 << 17
TORCH_BLOCK = 1 << 14
"""Below torch's grain of 2^15 elements, so that torch starts no threads of its own within ours."""

_PLAIN = (Tensor, torch.nn.Parameter)
_HALF = (torch.float16, torch.bfloat16)


class Elementwise(NamedTuple):
    """A function of tensors of one shape and dtype.

    Attributes:
        formula: The function as torch operations on float32 or float64.
        in_double: A shorter formula for narrower dtypes, in float64, which small CPU tensors can afford.
        kernel: The name of its Numba kernel.
    """

    formula: Formula
    in_double: Callable[..., Tensor] | None = None
    kernel: str | None = None


def evaluate(function: Elementwise, *tensors: Tensor) -> Tensor:
    """Return the function of floating-point tensors of one shape and dtype; no graph is recorded.

    Args:
        function: What to evaluate; its last argument decides the result's layout.
        *tensors: The arguments, float16, bfloat16, float32 or float64; half precision computes in float32.

    Returns:
        A new tensor of the arguments' shape, dtype and device, with the last one's strides where it is dense.
    """
    if torch.compiler.is_compiling() or not all(map(_is_plain_on_cpu, tensors)):
        on_device = _on_device(function, tensors)
        if on_device is not None:
            return on_device
        return _widened(function.formula, tensors, FLOATS)
    x = tensors[-1]
    if x.numel() < LARGE or is_observed(*tensors):
        if function.in_double and x.dtype != torch.float64:
            return function.in_double(*tensors).to(x.dtype)
        return _widened(function.formula, tensors, CPU_TENSORS)
    return _in_blocks(function, tensors)


def _is_plain_on_cpu(t: Tensor) -> bool:
    return t.is_cpu and type(t) in _PLAIN


def _on_device(function: Elementwise, tensors: Sequence[Tensor]) -> Tensor | None:
    """Evaluate by one launch of a kernel, where these are ordinary tensors of a device that has it; else None."""
    kernel = function.kernel
    if kernel is None or torch.compiler.is_compiling() or not all(type(t) in _PLAIN for t in tensors):
        return None
    if not elements.fits(tensors) or is_observed(*tensors):
        return None
    out = torch.empty_like(tensors[-1].detach())
    flats = [_flat(t.detach(), out) for t in tensors]
    if any(t.stride() != (1,) for t in flats):
        flats = [t.contiguous() for t in flats]
    return None if launched(lambda: elements.evaluated(kernel, flats, _flat(out, out))) is None else out


def _widened(formula: Formula, tensors: Sequence[Tensor], constants: dict[torch.dtype, Any]) -> Tensor:
    """Evaluate the formula in float32 or float64, and round once to the arguments' dtype."""
    dtype = tensors[-1].dtype
    if dtype in _HALF:
        return formula(*(t.float() for t in tensors), constants[torch.float32]).to(dtype)
    return formula(*tensors, constants[dtype])


@optional_kernels
def _in_blocks(function: Elementwise, tensors: Sequence[Tensor]) -> Tensor:
    x = tensors[-1].detach()
    out = torch.empty_like(x)
    target = _flat(out, out)
    flats = [_flat(t.detach(), out) for t in tensors]
    if function.kernel is None or not may_serve():
        _run(_torch_block(function.formula, flats, target), x.numel(), TORCH_BLOCK)
        return out
    import janelia_core.ml._log_cosh.kernel as kernels

    size = TORCH_BLOCK if x.dtype in _HALF else KERNEL_BLOCK
    _run(_kernel_block(kernels, function.kernel, flats, target), x.numel(), size)
    return out


def _flat(t: Tensor, out: Tensor) -> Tensor:
    """View `t` as one dimension in the order of `out`'s memory, copying it only if its layout differs.

    `empty_like` gives `out` the strides of a dense tensor: equal strides mean that both are dense.
    """
    n = out.numel()
    if t.stride() == out.stride() and not t.is_neg():
        return t.as_strided((n,), (1,))
    if not any(t.stride()) and not t.is_neg():  # a scalar's gradient, expanded: no need to write it out
        return t.as_strided((1,), (1,)).expand(n)
    return torch.empty_like(out).copy_(t).as_strided((n,), (1,))


def _torch_block(formula: Formula, flats: list[Tensor], target: Tensor) -> Callable[[int, int], None]:
    def run(start: int, stop: int) -> None:
        parts = [t[start:stop] for t in flats]
        target[start:stop].copy_(_widened(formula, parts, CPU_TENSORS))

    return run


def _kernel_block(kernels: Any, name: str, flats: list[Tensor], target: Tensor) -> Callable[[int, int], None]:
    kernel = getattr(kernels, name)
    wide = torch.float32 if target.dtype in _HALF else target.dtype

    def run(start: int, stop: int) -> None:
        parts = [t[start:stop].to(wide).resolve_neg().contiguous().numpy() for t in flats]
        place = target[start:stop]
        result = place if wide == target.dtype else torch.empty(stop - start, dtype=wide)
        array = result.numpy()
        kernel(*parts, array, kernels.CONSTANTS[array.dtype])
        if result is not place:
            place.copy_(result)

    return run


def _run(block: Callable[[int, int], None], n: int, size: int) -> None:
    """Call block(start, stop) over 0..n on at most `torch.get_num_threads()` threads, this one among them."""
    count = min(torch.get_num_threads(), -(-n // (2 * LARGE)))
    shared(lambda start: block(start, min(start + size, n)), range(0, n, size), count)
