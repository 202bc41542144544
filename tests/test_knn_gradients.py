"""Gradients of knn's distances: right to every order and in every mode, 0 at zero distance, the same every time."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from janelia_core.ml._knn.distances.distances import distances as distances_of
from janelia_core.ml._neighbors.derivatives import few_pairs, norm_pairs, pair_blocks, pairs, sign_pairs
from janelia_core.ml._neighbors.derivatives.distances import distances
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs
from janelia_core.ml.neighbors import knn
from problems import PLANE

# torch warns of itself: torch.func.jvp uses torch.jit.script.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

ORDERS = {"manhattan": 1, "chebyshev": torch.inf}
SOME = torch.tensor([[0, 2, 5], [5, -1, 3], [3, 2, -1], [1, 0, 4]])


def random(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


def plain(x, ctrs, indices, metric):
    """The distances as anybody would write them, differentiated by autograd."""
    missing = indices < 0
    x, c = x[:, None], ctrs[indices.clamp(min=0)]
    if metric in ("euclidean", "sqeuclidean"):
        out = (x - c).square().sum(-1)
        out = out.sqrt() if metric == "euclidean" else out
    elif metric in ORDERS:
        out = torch.linalg.vector_norm(x - c, ord=ORDERS[metric], dim=-1)
    else:
        out = -(x * c).sum(-1)
        out = out if metric == "dot" else 1 + out / (x.square().sum(-1) * c.square().sum(-1)).sqrt()
    return out.masked_fill(missing, 0)


@pytest.fixture(params=[(0, 0), (1 << 60, 0), (1 << 60, 1 << 60)], ids=["kernels", "torch", "few"])
def route(request, monkeypatch):
    """All ways of summing over pairs: compiled, and in torch operations in chunks of few pairs, or all at once."""
    fewest, most = request.param
    monkeypatch.setattr(pair_blocks, "FEWEST", fewest)
    monkeypatch.setattr(few_pairs, "MOST", most)


@pytest.mark.parametrize("metric", PLANE)
@pytest.mark.usefixtures("route")
def test_first_and_second_derivatives_in_every_mode(metric):
    def function(x, ctrs):
        return distances(x, ctrs, SOME, metric, 100).masked_fill(SOME < 0, 0)

    inputs = random(4, 2), random(6, 2)
    assert gradcheck(function, inputs, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    assert gradgradcheck(function, inputs, check_fwd_over_rev=True, check_batched_grad=True, fast_mode=True)


@pytest.mark.parametrize("metric", PLANE)
@pytest.mark.usefixtures("route")
def test_second_derivatives_are_those_of_the_plain_formula(metric):
    x, ctrs, weight = random(4, 3), random(6, 3), random(4, 3).detach().exp().requires_grad_()
    seen = []
    for out in (distances(x, ctrs, SOME, metric, 100).masked_fill(SOME < 0, 0), plain(x, ctrs, SOME, metric)):
        first = torch.autograd.grad((out * weight).sum(), (x, ctrs), create_graph=True)
        mixed = sum((g * random(7, *g.shape)[5].detach()).sum() for g in first)
        seen += [(*first, *torch.autograd.grad(mixed, (x, ctrs, weight)))]
    for got, expected in zip(*seen, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("metric", PLANE)
@pytest.mark.parametrize("order", ["rrr", "fff", "frf", "rfr"])
def test_third_derivatives_of_torch_func_are_those_of_the_plain_formula(metric, order):
    x, ctrs = random(4, 2).detach(), random(6, 2).detach()

    def third(function):
        for mode in order:
            function = (torch.func.jacrev if mode == "r" else torch.func.jacfwd)(function)
        return function(x)

    got = third(lambda x: distances(x, ctrs, SOME, metric, 1 << 20).masked_fill(SOME < 0, 0).sum())
    torch.testing.assert_close(got, third(lambda x: plain(x, ctrs, SOME, metric).sum()))


@pytest.mark.parametrize("metric", PLANE)
def test_gradients_of_knn_are_those_of_the_plain_formula_at_its_indices(metric, monkeypatch):
    monkeypatch.setattr("janelia_core.ml._neighbors.call.knn_indices", lambda *_: SOME)  # whatever they are
    monkeypatch.setattr("janelia_core.ml._neighbors.call.nearest_briefly", lambda *_, **__: None)
    x, ctrs = random(4, 3), random(6, 3)
    got = knn(x, ctrs, 3, metric=metric).distances.masked_fill(SOME < 0, 0)
    expected = plain(x, ctrs, SOME, metric)
    torch.testing.assert_close(got, expected)
    weight = torch.rand_like(got)
    for a, b in zip(*(torch.autograd.grad((out * weight).sum(), (x, ctrs)) for out in (got, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_flow_through_batches_and_to_both_parts_a_row_of_x_plays():
    x, ctrs = random(2, 5, 3), random(6, 3)
    expected = torch.cdist(x, ctrs).topk(2, largest=False).values.square().sum()
    got = knn(x, ctrs, 2).distances.square().sum()
    for a, b in zip(*(torch.autograd.grad(out, (x, ctrs)) for out in (got, expected)), strict=True):
        torch.testing.assert_close(a, b)
    among = knn(x, k=2).distances.square().sum()
    gaps = (x[:, :, None] - x[:, None]).square().sum(-1) + 99 * torch.eye(5)
    nearest = gaps.topk(2, largest=False).values.sum()
    torch.testing.assert_close(torch.autograd.grad(among, x), torch.autograd.grad(nearest, x))


@pytest.mark.parametrize("metric", PLANE)
def test_zero_distances_and_zero_vectors_have_derivatives_that_are_not_nan(metric):
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    ctrs = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 1.0]], dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(knn(x, ctrs, 3, metric=metric).distances.sum(), (x, ctrs), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, ctrs))
    assert all(torch.isfinite(g).all() for g in (*first, *second))
    tangents = torch.func.jvp(lambda x: knn(x, ctrs.detach(), 3, metric=metric).distances, (x,), (x + 1,))
    assert all(torch.isfinite(t).all() for t in tangents)


def test_the_subgradient_of_the_distance_of_a_point_to_itself_is_zero():
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    knn(x, x.detach().clone(), 1).distances.sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0]]


def test_missing_neighbours_pull_at_nothing():
    x, ctrs = random(3, 2), random(5, 2)
    found = knn(x, ctrs, 4, mask=torch.tensor([True, False, True, False, False]))
    g = torch.autograd.grad(found.distances.masked_fill(found.indices < 0, 0).sum(), (x, ctrs), retain_graph=True)
    assert (g[1][[1, 3, 4]] == 0).all()
    g = torch.autograd.grad(found.distances.sum(), (x, ctrs))
    assert all(torch.isfinite(part).all() for part in g)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("metric", PLANE)
def test_rows_without_any_neighbour_have_derivatives_of_zero(metric, dtype):
    x, ctrs = (random(n, 2, dtype=torch.float32).detach().to(dtype).requires_grad_() for n in (3, 5))
    far = knn(x, ctrs, 4, metric=metric, mask=torch.zeros(3, 5, dtype=torch.bool)).distances
    first = torch.autograd.grad(far.masked_fill(torch.isinf(far), 0).sum(), (x, ctrs), create_graph=True)
    second = torch.autograd.grad(sum(g.float().sum() for g in first), (x, ctrs))
    assert all((g == 0).all() for g in (*first, *second))


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("metric", PLANE)
def test_what_is_not_finite_and_nobody_may_have_pulls_at_nothing(metric):
    x, ctrs = random(6, 2, dtype=torch.float32).detach(), random(5, 2, dtype=torch.float32).detach()
    x[5], ctrs[0], ctrs[1, 0] = torch.inf, torch.nan, -torch.inf
    x.requires_grad_(), ctrs.requires_grad_()
    mask = torch.tensor([False, False, True, True, True]).repeat(6, 1)
    mask[5] = False
    found = knn(x, ctrs, 4, mask=mask, metric=metric)
    got = torch.autograd.grad(found.distances.masked_fill(found.indices < 0, 0).sum(), (x, ctrs))
    sound = x.detach()[:5].requires_grad_(), ctrs.detach()[2:].requires_grad_()
    expected = torch.autograd.grad(knn(*sound, 3, metric=metric).distances.sum(), sound)
    torch.testing.assert_close(
        got, (torch.cat([expected[0], x.new_zeros(1, 2)]), torch.cat([x.new_zeros(2, 2), expected[1]]))
    )


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backward_is_the_same_every_time_and_for_any_number_of_threads(dtype):
    x, ctrs = random(3000, 5, dtype=dtype), random(40, 5, dtype=dtype)
    found = knn(x, ctrs, 9).distances
    weight = torch.rand_like(found)
    threads = torch.get_num_threads()
    seen = []
    try:
        for count in (1, 2, 3, 1):
            torch.set_num_threads(count)
            seen.append(torch.autograd.grad(found, (x, ctrs), weight, retain_graph=True))
    finally:
        torch.set_num_threads(threads)
    for other in seen[1:]:
        assert torch.equal(other[0], seen[0][0])
        assert torch.equal(other[1], seen[0][1])


@pytest.mark.parametrize("differences", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("first", [[], [0, 25], [10, 0, 25]])
def test_kernels_and_torch_operations_agree_whatever_the_memory(differences, dtype, first, monkeypatch):
    n, m, d, k = 90, 50, 7, 4
    u, x, v, c = (random(rows, d, dtype=dtype).detach() for rows in (n, n, m, m))
    indices = torch.randint(-1, 25 if first else m, (n, k), generator=torch.Generator().manual_seed(0))
    w = random(k, n, dtype=dtype).detach().T
    listed = Pairs(indices, torch.tensor(first, dtype=torch.int64))
    r = distances_of(x, c, indices, centres=listed.centres)
    bends = u[:, None], v[:, None]
    results = []
    for fewest, most in ((0, 0), (1 << 60, 0), (1 << 60, 1 << 60)):
        monkeypatch.setattr(pair_blocks, "FEWEST", fewest)
        monkeypatch.setattr(few_pairs, "MOST", most)
        for budget in (1, 5000, 1 << 26):
            got = pairs.products(u, v, x, c, listed, differences, 2.0, budget)
            norms = (
                norm_pairs.values(*bends, x, c, r, listed, budget),
                *norm_pairs.sums(w, *bends, x, c, r, listed, budget),
            )
            straight = norm_pairs.sums(w, bends[0][:, :0], bends[1][:, :0], x, c, r, listed, budget)
            results.append((got, *pairs.sums(w, x, c, listed, differences, 2.0, budget), *norms, *straight))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4 if dtype == torch.float32 else 1e-12, atol=1e-5)
    batch = torch.arange(n) // (n // max(1, len(first)))
    shifted = torch.where(indices < 0, -1, indices + (listed.first[batch, None] if first else 0))
    again = Pairs(shifted, listed.first[:0])
    assert all(map(torch.equal, pairs.sums(w, x, c, listed, True, 1.0, 1), pairs.sums(w, x, c, again, True, 1.0, 1)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gets_its_gradients_in_its_own_dtype(dtype):
    x, ctrs = (random(n, 3, dtype=torch.float32).detach().to(dtype).requires_grad_() for n in (20, 30))
    g = torch.autograd.grad(knn(x, ctrs, 3).distances.sum(), (x, ctrs))
    wide = [t.detach().float().requires_grad_() for t in (x, ctrs)]
    expected = torch.autograd.grad(knn(*wide, 3).distances.sum(), wide)
    for a, b in zip(g, expected, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b, rtol=1e-2, atol=1e-3)


def test_integers_beside_floats_take_no_gradient_and_floats_do():
    x = torch.tensor([[3, 4]])
    ctrs = torch.zeros(1, 2, requires_grad=True)
    knn(x, ctrs, 1).distances.sum().backward()
    torch.testing.assert_close(ctrs.grad, torch.tensor([[-0.6, -0.8]]))


def test_far_from_the_origin_gradients_keep_their_digits():
    gap = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    at = torch.tensor([[1e6, -2e6]])
    x = at.clone().requires_grad_()
    knn(x, at + gap.float(), 1).distances.sum().backward()
    torch.testing.assert_close(x.grad.double(), -gap / 5)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", ORDERS)
def test_ties_of_coordinates_have_the_gradient_that_torch_gives_norms(metric, dtype):
    gaps = [[3.0, -3, 1, 0], [0, 0, 0, 0], [-2, -2, 2, 2], [0, 5, 0, 0], [2.0**-149, 0, -(2.0**-149), 0]]
    x, at = torch.tensor(gaps, dtype=dtype).requires_grad_(), torch.arange(5)[:, None]
    ctrs, weight = torch.zeros_like(x).requires_grad_(), torch.tensor([[1.0], [2], [3], [4], [5]], dtype=dtype)
    got = torch.autograd.grad(distances(x, ctrs, at, metric, 1 << 20), (x, ctrs), weight)
    expected = torch.autograd.grad(torch.linalg.vector_norm(x, ord=ORDERS[metric], dim=1), x, weight[:, 0])[0]
    torch.testing.assert_close(got, (expected, -expected), rtol=1e-6, atol=0)
    moves = torch.ones(5, 4, dtype=dtype), torch.zeros(5, 4, dtype=dtype)
    along = torch.func.jvp(lambda x, c: distances(x, c, at, metric, 1 << 20), (x.detach(), ctrs.detach()), moves)[1]
    torch.testing.assert_close(along, (expected / weight).sum(1, keepdim=True), rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("metric", ORDERS)
def test_signs_of_differences_that_overflow_and_of_weights_that_are_infinite_are_not_nan(metric):
    x = torch.tensor([[1.5e308, -1.5e308, 0.0]], dtype=torch.float64)
    ctrs, w = torch.tensor([[-1.5e308, 1.7e308, 0.0]], dtype=torch.float64), torch.full((1, 1), torch.inf).double()
    got = sign_pairs.sums(w, x, ctrs, Pairs(torch.tensor([[0]]), torch.tensor([]).long()), metric == "chebyshev", 1)
    expected = [[0.0 if metric == "chebyshev" else torch.inf, -torch.inf, 0.0]]
    assert got[0].tolist() == expected
    assert got[1].neg().add(0.0).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("first", [[], [10, 0, 25]])
def test_signs_by_kernels_and_by_torch_operations_agree_whatever_the_memory(dtype, first, monkeypatch):
    n, m, d, k = 90, 50, 7, 4
    u, v = (random(rows, d, dtype=dtype).detach() for rows in (n, m))
    x, c = (random(rows, d, dtype=dtype).detach().mul(2).round() for rows in (n, m))  # with ties
    indices = torch.randint(-1, 25 if first else m, (n, k), generator=torch.Generator().manual_seed(0))
    w, listed = random(k, n, dtype=dtype).detach().T, Pairs(indices, torch.tensor(first, dtype=torch.int64))
    for largest in (False, True):
        results = []
        for fewest in (0, 1 << 60):
            monkeypatch.setattr(pair_blocks, "FEWEST", fewest)
            for budget in (1, 5000, 1 << 26):
                along = sign_pairs.values(u, v, x, c, listed, largest, budget)
                results.append((along, *sign_pairs.sums(w, x, c, listed, largest, budget)))
        for other in results[1:]:
            for a, b in zip(other, results[0], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spoilt", ["", "missing", "zero", "level", "tiny", "infinite", "weight"])
def test_few_pairs_by_kernels_and_by_numpy_have_the_same_bytes(monkeypatch, dtype, spoilt):
    from janelia_core.ml._neighbors.derivatives import few_kernels

    n, m, d, k = 40, 9, 3, 20
    x, c = random(n, d, dtype=dtype).detach(), random(m, d, dtype=dtype).detach()
    w = random(k, n, dtype=dtype).detach().T
    indices = torch.randint(0, m, (n, k), generator=torch.Generator().manual_seed(0))
    if spoilt in ("zero", "tiny"):
        x[3] = c[2] + (2.0**-130 if spoilt == "tiny" and dtype == torch.float32 else 0.0)
        indices[3, 4] = 2
    elif spoilt == "missing":
        indices[torch.rand(n, k, generator=torch.Generator().manual_seed(1)) < 0.2] = -1
        c[0] = torch.inf  # which stands in for none
        indices[indices == 0] = 1
    elif spoilt == "level":  # products of a negative weight and no difference: -0
        x[:, 0] = c[:, 0] = 0.0
        w = -w.abs()
    elif spoilt == "infinite":
        x[5, 1] = torch.inf
    elif spoilt == "weight":
        w[2, 3] = torch.nan
    pairs_ = Pairs(indices, torch.tensor([], dtype=torch.int64))
    r = distances_of(x, c, indices)
    found = []
    for kernels in (None, few_kernels):
        monkeypatch.setattr(few_pairs, "_kernels", lambda _, kernels=kernels: kernels)
        found.append(
            [
                few_pairs.norm_sums(w, x, c, r, pairs_, 1 << 20),
                few_pairs.sums(w, x, c, pairs_, True, 2.0, 1 << 20),
                few_pairs.sums(w, x, c, pairs_, False, -1.0, 1 << 20),
            ]
        )
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        for a, b in zip(one or (), other or (), strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()
    assert (found[0][0] is None) == (spoilt in ("infinite", "weight"))
