"""What is made of neighbours on a GPU is what the CPU makes of them: kernels interpreted, and compiled for GPUs."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs the extra gpu-test")

from interpreted import interpreted
from janelia_core.ml._knn.distances.distances import distances, result_dtype
from janelia_core.ml._knn.distances.off_cpu import off_cpu
from janelia_core.ml._knn.distances.triton import pairs as pairs_on_device
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._log_cosh.triton import elements
from janelia_core.ml._neighbors.affine import sums as affine
from janelia_core.ml._neighbors.affine.triton import sums as affine_on_device
from janelia_core.ml._neighbors.derivatives import norm_pairs, pairs
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs
from janelia_core.ml._neighbors.derivatives.triton import sums
from janelia_core.ml._neighbors.derivatives.triton.kinds import DIFFERENCES, LENGTHS, PRODUCTS, Vectors
from log_cosh_truth import error_in_ulp, rounded, truth
from problems import KINDS, PROBLEMS
from triton_compile import compiled

METRICS = ("euclidean", "sqeuclidean", "dot", "cosine")
MEMORY = 1 << 22


def found(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Some pairs of a problem, a few of them none."""
    x, ctrs, k, _ = PROBLEMS[name]()
    g = torch.Generator().manual_seed(0)
    return x[:20], ctrs, torch.randint(-1, len(ctrs), (min(20, len(x)), min(k, 3)), generator=g)


def unlike(name: str) -> list[str]:
    """What differs in a bit from the CPU's distances, in a process where kernels are interpreted."""
    warnings.simplefilter("ignore")  # of NumPy, where real numbers overflow
    serve, differ = pairs_on_device.device_kernels_serve, []
    x, ctrs, indices = found(name)
    for metric in METRICS:
        expected = distances(x, ctrs, indices, metric)
        pairs_on_device.device_kernels_serve = lambda *_: True  # a CPU is all there is
        served = pairs_on_device.fits(x, ctrs, metric_named(metric))
        got = off_cpu(x, ctrs, indices, metric_named(metric), expected.dtype, MEMORY, None)
        pairs_on_device.device_kernels_serve = serve
        bits = torch.int32 if got.dtype == torch.float32 else torch.int64
        alike = torch.equal(*(t.nan_to_num(nan=7.0, posinf=torch.inf).view(bits) for t in (got, expected)))
        if not (served and alike and torch.equal(got.isnan(), expected.isnan())):
            differ.append(f"{metric} of {name}: {'differs' if served else 'not served'}")
    return differ


def all_unlike(names: list[str]) -> list[str]:
    return [said for name in names for said in unlike(name)]


READ = [
    name
    for name, make in PROBLEMS.items()
    if name in KINDS and {make().x.dtype, make().ctrs.dtype} <= {*pairs_on_device.DTYPES} - {torch.bfloat16}
]


def test_distances_are_those_of_the_cpu_bit_for_bit() -> None:
    assert len(READ) > 5
    assert interpreted(all_unlike, READ) == []


def test_more_pairs_in_doubt_than_are_listed_are_decided_too() -> None:
    assert interpreted(doubtful) == (True, True)


def doubtful() -> tuple[bool, bool]:
    """Whether nearly all pairs are in doubt, and decided as on the CPU."""
    warnings.simplefilter("ignore")
    x, ctrs, indices = found("subnormals-torch.float64")
    pairs_on_device.MOST_IN_DOUBT = 4
    metric, out = metric_named("euclidean"), torch.empty(indices.shape, dtype=torch.float64)
    left = pairs_on_device.rounded_pairs(metric, x, ctrs, indices, None, MEMORY, out)
    expected = distances(x, ctrs, indices)
    pairs_on_device.device_kernels_serve = lambda *_: True
    got = off_cpu(x, ctrs, indices, metric, expected.dtype, MEMORY, None)
    return len(left) == int((indices >= 0).sum()), torch.equal(got, expected)


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def gradients(n: int, m: int, d: int, scale: float, dtype: torch.dtype, piece: int) -> float:
    """The largest difference from the CPU's sums, relative to the largest sum of each kind."""
    warnings.simplefilter("ignore")
    sums.PIECE = piece
    x, c, w = (random(n, d) * scale).to(dtype), (random(m, d) * scale).to(dtype), random(n, 4, dtype=dtype)
    c[0] = x[0]
    indices = torch.randint(-1, m // 2, (n, 4), generator=torch.Generator().manual_seed(1))
    indices[0, 0] = 0
    of_pairs = Pairs(indices, torch.tensor([0, m - m // 2]))
    r = distances(x, c, indices, centres=of_pairs.centres)
    worst = 0.0
    for kind in (PRODUCTS, DIFFERENCES, LENGTHS):
        if kind == LENGTHS:
            vectors = Vectors(w[None], x, c, kind, r=r)
            none = x.new_empty(n, 0, d), c.new_empty(m, 0, d)
            expected = norm_pairs.sums(w, *none, x, c, r, of_pairs, MEMORY)
        else:
            vectors = Vectors(w[None], x, c, kind, -2.0)
            expected = pairs.sums(w, x, c, of_pairs, kind == DIFFERENCES, -2.0, MEMORY)
        for got, right in zip(sums.sums(vectors, of_pairs, MEMORY), expected, strict=True):
            worst = max(worst, float((got - right).abs().max() / right.abs().max()))
    return worst


@pytest.mark.parametrize(
    ("shape", "scale", "dtype", "piece"),
    [
        ((14, 20, 70), 1.0, torch.float32, 128),
        ((40, 4, 3), 1.0, torch.float64, 16),
        ((10, 20, 5), 1e-320, torch.float64, 128),
        ((10, 20, 5), 1e307, torch.float64, 128),
    ],
    ids=["wide", "pieces", "subnormal", "huge"],
)
def test_sums_by_row_and_by_centre_are_those_of_the_cpu(
    shape: tuple[int, int, int], scale: float, dtype: torch.dtype, piece: int
) -> None:
    assert interpreted(gradients, *shape, scale, dtype, piece) <= (1e-6 if dtype == torch.float32 else 1e-14)


def affine_sums() -> list[tuple[Tensor, Tensor]]:
    """What kernels, and torch operations, make of affine maps."""
    n, m, outputs, d, k = 4, 5, 17, 66, 2
    weight, bias, x, c, g = random(m, outputs, d), random(m, outputs), random(n, d), random(m, d), random(n, outputs)
    indices = torch.randint(-1, m, (n, k), generator=torch.Generator().manual_seed(0))
    total = affine_on_device.total(g, indices, m, MEMORY)
    kernels = (
        affine_on_device.values(weight, bias, x, c, indices),
        *affine_on_device.maps(g, x, c, indices, MEMORY),
        affine_on_device.points(g, weight, indices),
        total,
    )
    maps = affine.maps(g, x, c, indices, MEMORY)
    by_row = affine.points(g, weight, indices, MEMORY)[0]
    operations = affine.values(weight, bias, x, c, indices, MEMORY), *maps, by_row, maps[1]
    return list(zip(kernels, operations, strict=True))


def test_affine_sums_are_those_of_the_cpu() -> None:
    for got, expected in interpreted(affine_sums):
        torch.testing.assert_close(got, expected)


def evaluated(kernel: str, *tensors: Tensor) -> Tensor:
    return elements.evaluated(kernel, tensors, torch.empty_like(tensors[-1]))


def test_log_cosh_keeps_its_bounds() -> None:
    half = torch.arange(-(2**15), 2**15, 3).to(torch.int16).view(torch.float16)
    half = half[half.isfinite()]
    assert torch.equal(interpreted(evaluated, "log_cosh", half), rounded(truth(half), torch.float16))
    u = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    x = torch.cat([torch.exp2(u * 20 - 14), -torch.exp2(u * 240 - 120)])
    assert error_in_ulp(interpreted(evaluated, "log_cosh", x), x).max() <= 2
    wild = torch.tensor([0.0, torch.inf, -torch.inf, torch.nan])
    assert interpreted(evaluated, "log_cosh", wild).nan_to_num(7.0).tolist() == [
        0.0,
        *[float(torch.finfo().max)] * 2,
        7,
    ]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("metric", "dtype"), [("euclidean", torch.float32), ("cosine", torch.float64)])
def test_a_compiler_contracts_nothing_in_distances_and_spills_nothing(
    capability: int, metric: str, dtype: torch.dtype
) -> None:
    from janelia_core.ml._knn.distances.triton.kernel import round_pairs

    points, numbers = torch.empty(1, dtype=dtype, device="meta"), torch.empty(1, dtype=torch.int64, device="meta")
    constants = pairs_on_device.constants(metric_named(metric), points, points, 64)
    named = {"x": points, "ctrs": points, "indices": numbers, "doubtful": numbers, "count": numbers}
    arguments = {name: 7 for name in round_pairs.arg_names if name not in constants}
    arguments |= {**named, "out": points.to(result_dtype(points, points))}
    kernel = compiled(round_pairs, arguments, constants, capability, enable_fp_fusion=False)
    assert (kernel.fits, kernel.stack, kernel.spills) == (True, 0, 0), str(kernel)
    assert "mul.rn.f64" in kernel.ptx
    assert "fma.rn.f64" not in kernel.ptx
