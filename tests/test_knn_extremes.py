"""Gradients at the ends of the formats: unit vectors stay unit vectors, whatever the distance; nothing is NaN."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext

import pytest
import torch

from janelia_core.ml._neighbors.derivatives import few_pairs, pair_blocks
from janelia_core.ml.neighbors import knn
from problems import PLANE

# torch warns of itself: torch.func.jvp uses torch.jit.script.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MANY = Context(prec=60, Emin=-(10**6), Emax=10**6)


@pytest.fixture(params=[(0, 0), (1 << 60, 0), (1 << 60, 1 << 60)], ids=["kernels", "torch", "few"], autouse=True)
def route(request, monkeypatch):
    """All ways of summing over pairs: compiled, and in torch operations, by chunks or all at once."""
    fewest, most = request.param
    monkeypatch.setattr(pair_blocks, "FEWEST", fewest)
    monkeypatch.setattr(few_pairs, "MOST", most)


def unit(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Return (x - c) / |x - c| of two vectors, from exact differences."""
    with localcontext(MANY):
        gap = [Decimal(a) - Decimal(b) for a, b in zip(x.tolist(), c.tolist(), strict=True)]
        norm = sum(value * value for value in gap).sqrt()
        return torch.tensor([float(value / norm) for value in gap], dtype=torch.float64)


def problems(dtype: torch.dtype, *dims: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return pairs of a row and a centre, apart by as little and by as much as the format has."""
    info = torch.finfo(dtype)
    least = info.tiny * info.eps
    g = torch.Generator().manual_seed(0)
    found = []
    for d in dims:
        for size in (
            least,
            3 * least,
            info.tiny / 2,
            info.tiny * 3,
            info.tiny**0.5,
            info.max**0.5,
            info.max / 4,
            info.max,
        ):
            for way in (torch.eye(d, dtype=torch.float64)[0], -torch.ones(d, dtype=torch.float64)):
                found.append((way * size, way * 0))
            way = torch.randn(d, dtype=torch.float64, generator=g)
            way /= way.abs().max()
            found += [(way * size, way * 0), (way * size, -way * size)]
    both = [(x.to(dtype), c.to(dtype)) for x, c in found]
    return [(x, c) for x, c in both if not torch.equal(x, c)]


def close(got: torch.Tensor, truth: torch.Tensor, dtype: torch.dtype) -> bool:
    return bool((got.double() - truth).abs().max() <= 4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_gradient_of_a_distance_is_a_unit_vector_however_near_or_far(dtype):
    for x, c in problems(dtype, 1, 2, 5):
        rows, ctrs = x[None].clone().requires_grad_(), c[None].clone().requires_grad_()
        r = knn(rows, ctrs, 1).distances
        gx, gc = torch.autograd.grad(r.sum(), (rows, ctrs), create_graph=True)
        truth = unit(x, c)
        assert close(gx[0], truth, dtype), (x, c, gx)
        assert close(-gc[0], truth, dtype), (x, c, gc)
        for second in torch.autograd.grad(gx[0, 0], (rows, ctrs)):
            assert not second.isnan().any(), (x, c, second)
            assert len(x) > 1 or second == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_forward_mode_vmap_and_torch_func_see_the_same_unit_vectors(dtype):
    for x, c in problems(dtype, 3):

        def r(x, c=c):
            return knn(x[None], c[None], 1).distances.sum()

        truth = unit(x, c)
        slope = torch.func.jvp(r, (x,), (torch.ones_like(x),))[1]
        assert abs(slope.double() - truth.sum()) <= 4 * len(x) * torch.finfo(dtype).eps, (x, c, slope)
        assert close(torch.func.jacfwd(r)(x), truth, dtype)
        assert all(close(g, truth, dtype) for g in torch.func.vmap(torch.func.grad(r))(torch.stack([x, x])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_higher_derivatives_that_vanish_are_zero_and_none_that_fits_is_nan(dtype):
    for x, c in [*problems(dtype, 1)[::4], *problems(dtype, 2)[2::4]]:

        def r(x, c=c):
            return knn(x[None], c[None], 1).distances.sum()

        hessian = torch.func.hessian(r)(x)
        assert not hessian.isnan().any(), (x, c, hessian)
        third = torch.func.jacfwd(torch.func.hessian(r))(x)
        if len(x) == 1:
            assert hessian == 0
            assert third == 0
        else:
            near, far = (x.double() - c.double()).norm(), torch.finfo(dtype).max
            assert near**-2 > far / 100 or not third.isnan().any(), (x, c, third)


def test_hessians_of_tiny_and_of_huge_distances_are_right_where_they_fit():
    for size in (2.0**-120, 2.0**120):
        x = torch.tensor([3.0, 4.0]) * size
        hessian = torch.func.hessian(lambda x: knn(x[None], torch.zeros(1, 2), 1).distances.sum())(x)
        truth = torch.tensor([[16.0, -12.0], [-12.0, 9.0]]) / 125
        torch.testing.assert_close(hessian * size, truth)


def test_many_small_contributions_and_weights_at_the_ends_are_kept():
    x = torch.tensor([[3e-42, 4e-42]], requires_grad=True)
    ctrs = torch.zeros(1, 2).expand(5, 2)
    for weight in (1.0, 1e-40, 1e37, 0.0):
        (g,) = torch.autograd.grad((knn(x, ctrs, 5).distances * weight).sum(), x)
        torch.testing.assert_close(g, 5 * weight * unit(x[0], ctrs[0]).float()[None], rtol=1e-5, atol=1e-44)
    far = torch.tensor([[1e25, 0.0]], requires_grad=True)  # w / r would be subnormal
    (g,) = torch.autograd.grad((knn(far, torch.zeros(1, 2)).distances * 1e-20).sum(), far)
    assert g.tolist() == [[torch.tensor(1e-20).item(), 0.0]]


@pytest.mark.parametrize("metric", PLANE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_metric_makes_nan_of_finite_values(metric, dtype):
    info = torch.finfo(dtype)
    for size in (info.tiny * info.eps, info.tiny, info.tiny**0.5, info.max**0.5 / 4, info.max / 4):
        x = (torch.tensor([[1.0, 0.5], [-1.0, 1.0]], dtype=dtype) * size).requires_grad_()
        ctrs = (torch.tensor([[0.5, -1.0], [0.0, 0.0], [-1.0, 1.0]], dtype=dtype) * size).requires_grad_()
        found = knn(x, ctrs, 3, metric=metric).distances
        for g in torch.autograd.grad(found.sum(), (x, ctrs)):
            assert not g.isnan().any(), (size, g)


@pytest.mark.parametrize("size", [2.0**-149, 2.0**-126, 2.0**-75, 2.0**75, 2.0**127])
def test_cosines_turn_as_those_of_ordinary_vectors_do(size):
    x, ctrs = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    wide = (x.double() * size).requires_grad_(), ctrs.double() * size
    (truth,) = torch.autograd.grad(knn(*wide, metric="cosine").distances.sum(), wide[0])
    narrow = (x * size).requires_grad_(), ctrs * size
    (g,) = torch.autograd.grad(knn(*narrow, metric="cosine").distances.sum(), narrow[0])
    torch.testing.assert_close(g, truth.float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(truth, torch.tensor([[0.0, -(0.5**0.5) / size]], dtype=torch.float64), rtol=1e-9, atol=0)


def test_differences_that_overflow_float64_still_have_squares_gradients_where_these_fit():
    x = torch.tensor([[1.5e308, 0.0]], dtype=torch.float64, requires_grad=True)
    ctrs = torch.tensor([[-1.5e308, 0.0]], dtype=torch.float64, requires_grad=True)
    found = knn(x, ctrs, metric="sqeuclidean").distances
    gx, gc = torch.autograd.grad(found, (x, ctrs), torch.full_like(found, 2.0**-10))
    assert gx.tolist() == [[1.5e308 * 2.0**-8, 0.0]]
    assert gc.tolist() == [[-1.5e308 * 2.0**-8, 0.0]]


def test_infinite_coordinates_and_missing_neighbours_pull_at_nothing():
    x = torch.tensor([[torch.inf, 0.0], [1.0, torch.nan], [1.0, 0.0]], requires_grad=True)
    ctrs = torch.tensor([[0.0, 0.0], [torch.inf, 1.0]], requires_grad=True)
    gx, gc = torch.autograd.grad(knn(x, ctrs, 3).distances.sum(), (x, ctrs))
    assert gx.tolist() == [[0, 0], [0, 0], [1, 0]]
    assert gc.tolist() == [[-1, 0], [0, 0]]
