"""log cosh is within 2 ulp on every path, and correctly rounded in half precision."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.ml import log_cosh
from janelia_core.ml._log_cosh.blocks import LARGE
from janelia_core.ml._log_cosh.constants import JOINT
from log_cosh_truth import PATHS, error_in_ulp, rounded, truth

Path = Callable[[Tensor], Tensor]
paths = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
wide_paths = pytest.mark.parametrize(
    ("path", "dtype"),
    [(p, d) for d in (torch.float32, torch.float64) for n, p in PATHS.items() if n != "double" or d == torch.float32],
)


def every(dtype: torch.dtype) -> Tensor:
    """Every value of a 16-bit dtype, NaN left out."""
    values = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    return values[~values.isnan()]


def stride_through(dtype: torch.dtype) -> Tensor:
    """Bit patterns spread evenly over all finite values, hence over every exponent, both signs."""
    integer = torch.int32 if dtype == torch.float32 else torch.int64
    top = int(torch.tensor(torch.finfo(dtype).max, dtype=dtype).view(integer))
    patterns = np.arange(0, top, top // 150_001, dtype=np.int32 if dtype == torch.float32 else np.int64)
    x = torch.from_numpy(patterns).view(dtype)
    return torch.cat([x, -x])


def where_it_matters(dtype: torch.dtype) -> Tensor:
    """Dense where the result isn't merely x^2 / 2 or |x| - log 2, and at the joint."""
    generator = torch.Generator().manual_seed(5)
    u = torch.rand(200_000, dtype=torch.float64, generator=generator)
    spread = torch.exp2(u * 20 - 14)
    around = JOINT + (u[:100_000] - 0.5) * torch.exp2(-u[100_000:] * 30)
    binades = torch.tensor([0.5, 1.0, 0.7271, 1.0851, 1.6]).repeat_interleave(20_000) + (u[:100_000] - 0.5) / 64
    return torch.cat([spread, around, binades]).to(dtype)


def test_the_oracle_agrees_with_mpmath() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.exp2(torch.rand(500, dtype=torch.float64, generator=generator) * 80 - 70)
    ours = truth(x)
    with mpmath.workdps(60):
        for value, right in zip(ours, map(mpmath.mpf, x.tolist()), strict=True):
            expected = mpmath.log(mpmath.cosh(right))
            high = float(value)
            held = mpmath.mpf(high) + mpmath.mpf(float(value - np.longdouble(high)))
            assert abs(held - expected) < expected * mpmath.mpf(2) ** -60


def test_the_measure_convicts_the_common_formula() -> None:
    x = where_it_matters(torch.float32)
    common = x.abs() - 0.6931471805599453 + torch.log1p(torch.exp(-2 * x.abs()))
    assert error_in_ulp(common, x).max() > 1e5


@wide_paths
def test_every_exponent_is_within_two_ulp(path: Path, dtype: torch.dtype) -> None:
    x = stride_through(dtype)
    assert error_in_ulp(path(x), x).max() <= 2


@wide_paths
def test_the_difficult_range_is_within_two_ulp(path: Path, dtype: torch.dtype) -> None:
    x = where_it_matters(dtype)
    assert error_in_ulp(path(x), x).max() <= 2


def test_the_kernel_errs_by_less_than_one_and_a_half_ulp() -> None:
    for dtype in (torch.float32, torch.float64):
        x = where_it_matters(dtype)
        assert error_in_ulp(PATHS["kernel"](x), x).max() <= 1.5


@paths
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_precision_value_is_correctly_rounded(path: Path, dtype: torch.dtype) -> None:
    x = every(dtype)
    finite = x.isfinite()
    assert torch.equal(path(x)[finite], rounded(truth(x[finite]), dtype))
    assert path(x)[~finite].tolist() == [torch.inf, torch.inf]


@paths
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_it_is_even_and_monotone(path: Path, dtype: torch.dtype) -> None:
    x = every(dtype) if dtype.itemsize == 2 else torch.cat([stride_through(dtype), where_it_matters(dtype)])
    a = x.abs().sort().values
    assert torch.equal(path(a), path(-a))
    y = path(a)
    assert (y[1:] >= y[:-1]).all()


@wide_paths
def test_neighbouring_values_are_in_order(path: Path, dtype: torch.dtype) -> None:
    integer = torch.int32 if dtype == torch.float32 else torch.int64
    for start in (2.0**-20, 0.1, 0.499, JOINT - 1e-15, 0.7271, 1.085, 1.6, 3.0, 9.0, 20.0, 1e4, 2e9):
        bits = torch.tensor(start, dtype=dtype).view(integer) + torch.arange(-20_000, 20_000, dtype=integer)
        assert (path(bits.view(dtype)).diff() >= 0).all()


@paths
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_special_values(path: Path, dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    x = torch.tensor([0.0, -0.0, tiny, -tiny, torch.inf, -torch.inf, torch.nan], dtype=dtype)
    y = path(x)
    assert y[:4].tolist() == [0, 0, 0, 0]
    assert not y[:4].signbit().any()
    assert y[4:6].tolist() == [torch.inf, torch.inf]
    assert y[6].isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernel_gives_the_same_bits_at_every_position(dtype: torch.dtype) -> None:
    x = where_it_matters(dtype)[:4099]
    whole = PATHS["kernel"](x)
    for start in (1, 2, 3, 5, 4080, 4090, 4098):
        assert torch.equal(PATHS["kernel"](x[start:].clone()), whole[start:])


def test_the_public_function_takes_the_paths_tested_here() -> None:
    x = where_it_matters(torch.float32)
    assert torch.equal(log_cosh(x[: LARGE - 1]), PATHS["double"](x[: LARGE - 1]))
    assert torch.equal(log_cosh(x), PATHS["kernel"](x))
    assert torch.equal(log_cosh(x.double()), PATHS["kernel"](x.double()))
    assert torch.equal(log_cosh(x.double()[:1000]), PATHS["torch-on-cpu"](x.double()[:1000]))
    assert torch.equal(log_cosh(x.bfloat16()), PATHS["kernel"](x.bfloat16()))
