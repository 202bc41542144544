"""Whether torch's float32 products on this machine obey the bound that small problems assume: the canary."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import TINY32, UNIT32


@functools.cache
def product_is_sound() -> bool:
    """Whether a float32 product stays within its rounding bound, on samples made to show shortcuts.

    Asked once per process; the switches that let torch multiply float32 in a lower precision are read anew for
    every search (`machine.products_are_exact`).
    """
    return all(within_bound(*sample) for sample in _samples())


def _samples() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator("cpu").manual_seed(0)
    samples = []
    for d in (18, 770):
        a = torch.randn(256, d, generator=generator, dtype=torch.float32, device="cpu")
        b = torch.randn(d, 256, generator=generator, dtype=torch.float32, device="cpu")
        samples += [(a, b), (a.abs(), b.abs())]  # sums that cancel, and sums that grow
    return samples


def within_bound(a: Tensor, b: Tensor) -> bool:
    """Whether torch.mm(a, b) is within gamma_W |a| |b| of the float64 product."""
    unit = a.shape[1] * UNIT32
    exact, total = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    error = (torch.mm(a, b).double() - exact).abs()
    return bool((error <= (unit / (1 - unit) + 2.0**-40) * total + TINY32).all())
