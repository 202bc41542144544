"""knn's operators keep torch's contracts: opcheck, torch.compile without a break, torch.export, vmap, autocast."""

from __future__ import annotations

import pytest
import torch
from torch.library import opcheck

from janelia_core.ml import NearestCenters, PiecewiseLinear
from janelia_core.ml._neighbors.affine import gradients as affine_gradients
from janelia_core.ml._neighbors.derivatives import operators
from janelia_core.ml._neighbors.indices import knn_indices
from janelia_core.ml.neighbors import knn

# torch warns of itself: the compiler instantiates Functions, forward mode uses torch.jit.script.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]

SOME = torch.tensor([[0, 2], [4, -1], [3, 2], [1, 0]])
MEMORY = 1 << 26


def random(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


@pytest.fixture(autouse=True)
def _forget_compiled_code():
    yield
    torch._dynamo.reset()


X, C = random(4, 3), random(5, 3)
ALL = torch.empty(0, dtype=torch.int64)  # indices are row numbers
R = (X[:, None] - C[SOME.clamp(min=0)]).norm(dim=-1).detach()
SETTINGS = ("euclidean", None, MEMORY, False)
SAMPLES = {
    "distances": (operators.knn_distances, (X, C, SOME, ALL, "euclidean", MEMORY)),
    "distances-dot": (operators.knn_distances, (X, C, SOME, ALL, "dot", MEMORY)),
    "distances-half": (operators.knn_distances, (X.detach().half(), C.detach().float(), SOME, ALL, "cosine", MEMORY)),
    "distances-batched": (operators.knn_distances, (X, random(9, 3), SOME, torch.tensor([0, 4]), "dot", MEMORY)),
    "cosines": (operators.knn_cosines, (X.detach(), C.detach(), random(4, 3), random(5, 3), SOME, ALL, MEMORY)),
    "angles": (
        operators.knn_angles,
        (X.detach()[:, :2], C.detach()[:, :2], random(4, 3), random(5, 3), SOME, ALL, MEMORY),
    ),
    "pair_products": (operators.knn_pair_products, (random(4, 3), random(5, 3), X, C, SOME, ALL, True, 2.0, MEMORY)),
    "pair_sums": (operators.knn_pair_sums, (random(4, 2), X, C, SOME, ALL, False, -1.0, MEMORY)),
    "norm_values": (operators.knn_norm_values, (random(4, 2, 3), random(5, 2, 3), X, C, R, SOME, ALL, MEMORY)),
    "sign_values": (operators.knn_sign_values, (random(4, 3), random(5, 3), X, C, SOME, ALL, False, MEMORY)),
    "sign_sums": (operators.knn_sign_sums, (random(4, 2), X, C, SOME, ALL, True, MEMORY)),
    "norm_sums": (
        operators.knn_norm_sums,
        (random(4, 2), random(4, 0, 3), random(5, 0, 3), X, C, R, SOME, ALL, MEMORY),
    ),
    "norm_sums-bent": (
        operators.knn_norm_sums,
        (random(4, 2), random(4, 1, 3), random(5, 1, 3), X, C, R, SOME, ALL, MEMORY),
    ),
    "affine_values": (affine_gradients.knn_affine_values, (random(5, 2, 3), random(5, 2), X, C, SOME, MEMORY)),
    "affine_maps": (affine_gradients.knn_affine_maps, (random(4, 2), X, C, SOME, MEMORY)),
    "affine_points": (affine_gradients.knn_affine_points, (random(4, 2), random(5, 2, 3), SOME, MEMORY)),
    "indices": (knn_indices, (X, C, 2, *SETTINGS, None, None, None, None, None)),
    "indices-subset": (knn_indices, (X, C, 2, *SETTINGS, torch.tensor([1, 3]), None, None, None, None)),
    "indices-mask": (knn_indices, (X, C, 2, *SETTINGS, None, torch.arange(5) > 2, None, None, None)),
    "indices-groups": (
        knn_indices,
        (X, C, 2, *SETTINGS, None, None, torch.tensor([[0, 2, 0, 3, 0], [2, 4, 3, 5, 0]]), None, None),
    ),
    "indices-ragged": (
        knn_indices,
        (X, C, 2, *SETTINGS, None, None, None, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 1])),
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_an_operator_passes_opcheck(name):
    operator, args = SAMPLES[name]
    opcheck(operator, args)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "chebyshev"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_whole_with_dynamic_shapes_it_gives_the_same_values_and_gradients(metric, backend):
    def function(x, ctrs, k):
        found = knn(x, ctrs, k, metric=metric)
        return found.distances.square().sum(), found.indices

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=backend)
    for n, n_ctrs, k in ((4, 5, 2), (9, 30, 3), (7, 8, 5)):
        x, ctrs = random(n, 3), random(n_ctrs, 3)
        (value, indices), (expected, expected_indices) = compiled(x, ctrs, k), function(x, ctrs, k)
        assert torch.equal(indices, expected_indices)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(*(torch.autograd.grad(out, (x, ctrs)) for out in (value, expected)))


@pytest.mark.parametrize(
    "options",
    [
        {"ctrs_lengths": torch.tensor([3, 5])},
        {"lengths": torch.tensor([3, 1]), "metric": "sqeuclidean"},
        {"mask": torch.arange(6) > 3},
        {"sample": 5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_batches_masks_and_draws_compile_whole(options):
    x, ctrs = random(2, 4, 3), random(2, 6, 3)
    compiled = torch.compile(lambda: knn(x, ctrs, 3, **options), fullgraph=True, backend="eager")
    torch.manual_seed(0)
    expected = knn(x, ctrs, 3, **options)
    torch.manual_seed(0)
    for a, b in zip(compiled(), expected, strict=True):
        assert torch.equal(a, b)


def test_ragged_batches_and_neighbours_among_x_compile_whole():
    x, batch = random(7, 3), torch.tensor([0, 0, 0, 1, 1, 1, 1])
    compiled = torch.compile(lambda x, batch: knn(x, k=3, x_batch=batch), fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(x, batch), knn(x, k=3, x_batch=batch), strict=True):
        assert torch.equal(a, b)


def test_lengths_out_of_range_are_refused_by_compiled_code_too():
    x = random(2, 4, 3).detach()
    compiled = torch.compile(lambda x, lengths: knn(x, k=2, lengths=lengths), fullgraph=True, backend="eager")
    compiled(x, torch.tensor([4, 0]))
    with pytest.raises(RuntimeError, match="lengths must be between 0 and 4"):
        compiled(x, torch.tensor([5, 0]))


@pytest.mark.parametrize("module", [NearestCenters, PiecewiseLinear])
def test_modules_export_and_come_back(module, tmp_path):
    ctrs = torch.nn.Parameter(random(20, 3).detach())
    made = module(ctrs, 3) if module is NearestCenters else module(ctrs, 2, 3)
    for parameter in made.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(0))
    x = random(4, 3).detach()
    exported = torch.export.export(made.eval(), (x,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))
    torch.export.save(exported, tmp_path / "module.pt2")
    loaded = torch.export.load(tmp_path / "module.pt2").module()
    for n in (4, 11):
        x = random(n, 3).detach()
        torch.testing.assert_close(tuple(loaded(x)), tuple(made(x)), rtol=0, atol=0)


def test_vmap_is_the_loop():
    x, ctrs = random(3, 5, 2).detach(), random(3, 7, 2).detach()
    for in_dims, loop in (
        ((0, 0), lambda b: (x[b], ctrs[b])),
        ((0, None), lambda b: (x[b], ctrs[1])),
        ((None, 0), lambda b: (x[1], ctrs[b])),
    ):
        args = (x if in_dims[0] == 0 else x[1], ctrs if in_dims[1] == 0 else ctrs[1])
        got = torch.vmap(lambda x, c: tuple(knn(x, c, 3)), in_dims=in_dims)(*args)
        for b in range(3):
            torch.testing.assert_close((got[0][b], got[1][b]), tuple(knn(*loop(b), 3)), rtol=0, atol=0)


def test_vmap_goes_over_groups_masks_and_neighbours_among_x():
    x = random(3, 2, 5, 2).detach()
    mask = torch.rand(5, generator=torch.Generator().manual_seed(0)) < 0.7
    for options in ({"lengths": torch.tensor([5, 3])}, {"mask": mask}, {}):
        got = torch.vmap(lambda x, o=options: knn(x, k=2, **o).indices)(x)
        assert torch.equal(got, torch.stack([knn(part, k=2, **options).indices for part in x]))


def test_vmap_goes_over_masks_and_drawn_centres_of_their_own():
    x, ctrs = X.detach(), C.detach()
    masks = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)) < 0.6
    for shape in ((3, 5), (3, 4, 5)):
        several = masks.view(3, *[1] * (len(shape) - 2), 5).expand(shape)
        got = torch.vmap(lambda mask: knn(x, ctrs, 2, mask=mask).indices)(several)
        assert torch.equal(got, torch.stack([knn(x, ctrs, 2, mask=mask).indices for mask in several]))
    got = torch.vmap(lambda x: knn(x, ctrs, 2, sample=3).indices, randomness="different")(x.expand(9, 4, 3))
    assert len({indices.numpy().tobytes() for indices in got}) > 1
    assert all(indices.unique().numel() <= 3 for indices in got)


def test_gradients_of_every_sample_come_from_vmap():
    x, ctrs = random(6, 3).detach(), random(9, 3).detach()

    def one(row):
        return knn(row[None], ctrs, 2).distances.sum()

    got = torch.vmap(torch.func.grad(one))(x)
    torch.testing.assert_close(got, torch.func.grad(lambda x: knn(x, ctrs, 2).distances.sum())(x))


def test_autocast_lowers_no_precision():
    x, ctrs = random(50, 8, dtype=torch.float32), random(70, 8, dtype=torch.float32)
    layer = PiecewiseLinear(ctrs.detach(), 3, 2)
    for parameter in layer.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(0))

    def everything():
        found = knn(x, ctrs, 4, metric="cosine")
        out = layer(x)
        return *found, out, *torch.autograd.grad(found.distances.sum() + out.square().sum(), (x, ctrs, layer.weight))

    expected = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = everything()
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


def test_fake_tensors_need_no_values():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        found = knn(torch.empty(7, 3, dtype=torch.float16), torch.empty(9, 3), 2)
    assert (found.distances.shape, found.distances.dtype) == ((7, 2), torch.float32)
    assert (found.indices.shape, found.indices.dtype) == ((7, 2), torch.int64)
