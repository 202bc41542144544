"""The fused multiply-add, which tells the error of a product."""

from __future__ import annotations

from janelia_core.ml._simd.emit import Builder
from janelia_core.ml._simd.intrinsics import Float64, intrinsic


@intrinsic
def fma(build: Builder, a: Float64, b: Float64, c: Float64) -> Float64:
    """The sum a b + c, rounded once."""
    return build.fma(a, b, c)
