"""Whether the products of this machine obey the bound that the dense screen assumes: the canary."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from janelia_core.ml._knn.dense_frame import SUM_UNIT, TINY, UNIT


@functools.cache
def product_is_sound(dtype: torch.dtype) -> bool:
    """Whether a product in this format stays within the screen's bound, on a sample made to show shortcuts.

    Asked once per process; the switches that let torch multiply float32 in a lower precision are read anew for
    every search (`machine.products_are_exact`), and then the dense screen isn't used at all.
    """
    return all(within_bound(*sample, dtype) for sample in _samples(dtype))


def _samples(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator("cpu").manual_seed(0)
    samples = []
    for d in (18, 770):
        a = torch.randn(256, d, generator=generator, dtype=torch.float32, device="cpu").to(dtype)
        b = torch.randn(d, 256, generator=generator, dtype=torch.float32, device="cpu").to(dtype)
        samples += [(a, b), (a.abs(), b.abs())]  # sums that cancel, and sums that grow
    return samples


def within_bound(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    """Whether torch.mm(a, b) is within gamma_W |a| |b|, and storing, of the float64 product."""
    unit = a.shape[1] * SUM_UNIT[dtype]
    exact, total = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    got = torch.mm(a, b).double()
    store = UNIT[dtype] * got.abs() if dtype != torch.float32 else 0.0
    return bool(((got - exact).abs() <= (unit / (1 - unit) + 2.0**-40) * total + store + TINY).all())
