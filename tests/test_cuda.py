"""On a CUDA device the answers are those of the oracle and of the CPU, byte for byte, whatever the data."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.files import search_files
from janelia_core.ml import NearestCenters, PiecewiseLinear, knn, log_cosh
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
from janelia_core.ml.neighbors import knn_graph
from log_cosh_truth import error_in_ulp, rounded, truth, ulp
from oracle import nearest
from problems import FLOATS, KINDS, PROBLEMS, gaussian

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

DEVICE = "cuda"

METRICS = ("euclidean", "sqeuclidean", "cosine", "dot")
STORED = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def there(*tensors: Tensor) -> list[Tensor]:
    return [t.to(DEVICE) for t in tensors]


def assert_same(got: Tensor, expected: Tensor) -> None:
    """The same bytes on a CUDA device as on the CPU; all NaN are alike."""
    assert got.device.type == DEVICE
    got = got.detach().cpu()
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    one, other = (t.nan_to_num(nan=torch.nan) if t.is_floating_point() else t for t in (got, expected.detach()))
    differs = (one.isnan() != other.isnan()) | ((one != other) & ~one.isnan()) | (one.signbit() != other.signbit())
    assert not differs.any(), f"{int(differs.sum())} of {differs.numel()}, the first at {differs.nonzero()[0].tolist()}"


def assert_same_search(x: Tensor, ctrs: Tensor | None, k: int, **options: object) -> None:
    """knn's distances and indices are those of the CPU; tensors among the options move as well."""
    moved = {name: value.to(DEVICE) if isinstance(value, Tensor) else value for name, value in options.items()}
    on_gpu = knn(x.to(DEVICE), None if ctrs is None else ctrs.to(DEVICE), k, **moved)
    for got, expected in zip(on_gpu, knn(x, ctrs, k, **options), strict=True):
        assert_same(got, expected)


# Hard small problems, against the oracle.


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_answer_is_the_exact_one(name: str) -> None:
    x, ctrs, k, answer = PROBLEMS[name]()
    expected = nearest(x, ctrs, k) if answer is None else answer
    for m in (64, len(ctrs)):
        assert_same(knn_mc(*there(x, ctrs), k, m), expected)


@pytest.mark.parametrize(("name", "metric"), list(itertools.product(KINDS, METRICS)))
def test_every_metric_has_the_oracles_order_and_the_distances_of_the_cpu(name: str, metric: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    x = x[:8]
    assert torch.equal(knn(*there(x, ctrs), k, metric=metric).indices.cpu().T, nearest(x, ctrs, k, metric))
    assert_same_search(x, ctrs, k, metric=metric)


@pytest.mark.parametrize("name", KINDS)
def test_all_centres_can_be_asked_for(name: str) -> None:
    x, ctrs, _, _ = PROBLEMS[name]()
    x, ctrs = x[:3], ctrs[:200]
    assert_same(knn_mc(*there(x, ctrs), len(ctrs), 50), nearest(x, ctrs, len(ctrs)))


@pytest.mark.parametrize(("name", "metric"), list(itertools.product(KINDS, ("euclidean", "cosine", "dot"))))
def test_a_mask_never_lets_a_denied_centre_through(name: str, metric: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    x = x[:6]
    shares = torch.tensor([0.5, 0.9, 0.02, 1.0, 0.0, 0.2])[: len(x), None]
    table = torch.rand(len(x), len(ctrs), generator=torch.Generator().manual_seed(0)) < shares
    expected = nearest(x, ctrs, k, metric, table).T
    on_gpu = table.to(DEVICE)
    for mask in (on_gpu, lambda rows, first, last: on_gpu[rows, first:last]):
        assert_same(knn(*there(x, ctrs), k, metric=metric, mask=mask).indices, expected)


@pytest.mark.parametrize("x_dtype", STORED)
@pytest.mark.parametrize("c_dtype", STORED)
def test_mixed_dtypes_compare_by_stored_value(x_dtype: torch.dtype, c_dtype: torch.dtype) -> None:
    x, ctrs = gaussian(x_dtype, n=6).x, gaussian(c_dtype, n_ctrs=90).ctrs
    assert_same(knn_mc(*there(x, ctrs), 4, 70), nearest(x, ctrs, 4))
    assert_same_search(x, ctrs, 4)


UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


@pytest.mark.parametrize("dtype", [torch.bool, *UNSIGNED, torch.float8_e4m3fn])
def test_rare_dtypes_compare_by_stored_value(dtype: torch.dtype) -> None:
    x, ctrs, k, _ = gaussian(torch.uint8, n_ctrs=90)
    x, ctrs = x.to(dtype), ctrs.to(dtype)
    assert_same(knn_mc(*there(x, ctrs), k, 1000), nearest(x.double(), ctrs.double(), k))
    assert_same_search(x, ctrs, k)


# Problems of many blocks, against the CPU, which takes other screens.


def lattice(n: int, n_ctrs: int) -> tuple[Tensor, Tensor]:
    """Nearly all distances tie, and centres have copies."""
    x, ctrs = (
        torch.randint(0, 4, (rows, 6), generator=torch.Generator().manual_seed(rows)).float() for rows in (n, n_ctrs)
    )
    return x, ctrs


def far(n: int, n_ctrs: int) -> tuple[Tensor, Tensor]:
    return random(n, 24) + 1e5, random(n_ctrs, 24) + 1e5


def clusters(n: int, n_ctrs: int) -> tuple[Tensor, Tensor]:
    """Bundles that float16 cannot part, a few centres very far out, and rows and centres that are not finite."""
    middles = 8.0 * random(9, 40)
    x, ctrs = (middles[torch.arange(rows) % 9] + 0.01 * random(rows, 40) for rows in (n, n_ctrs))
    ctrs[::1000] *= 1e30
    ctrs[5::1500, 3], x[::50, 1], x[7::60, 0] = torch.nan, torch.nan, torch.inf
    return x, ctrs


def spheres(n: int, n_ctrs: int) -> tuple[Tensor, Tensor]:
    return 1e-6 * random(n, 12), torch.nn.functional.normalize(random(n_ctrs, 12), dim=1)


LARGE: dict[str, Callable[[int, int], tuple[Tensor, Tensor]]] = {
    "gaussian": lambda n, n_ctrs: (random(n, 96), random(n_ctrs, 96)),
    "plane": lambda n, n_ctrs: (random(n, 2), random(n_ctrs, 2)),
    "wide": lambda n, n_ctrs: (random(n // 4, 700), random(n_ctrs // 4, 700)),
    "lattice": lattice,
    "far": far,
    "clusters": clusters,
    "spheres": spheres,
}


@pytest.mark.parametrize("name", LARGE)
def test_many_centres_have_the_answer_of_the_cpu_whatever_the_memory(name: str) -> None:
    x, ctrs = LARGE[name](400, 12_000)
    expected = knn_mc(x, ctrs, 10, len(ctrs))
    for m, max_memory in ((len(ctrs), 1 << 32), (3000, 1 << 28), (len(ctrs), 1 << 22)):
        assert_same(knn_mc(*there(x, ctrs), 10, m, max_memory=max_memory), expected)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_many_centres_of_every_float_have_the_answer_of_the_cpu(dtype: torch.dtype, metric: str) -> None:
    assert_same_search(random(150, 33, dtype=dtype), random(5000, 33, dtype=dtype), 7, metric=metric)


@pytest.mark.parametrize("k", [1, 100, 1500, 3000])
def test_many_neighbours_have_the_order_of_the_cpu(k: int) -> None:
    assert_same_search(random(40, 20), random(3000, 20), k)


def test_many_rows_have_the_answer_of_the_cpu() -> None:
    assert_same_search(random(30_000, 16), random(700, 16), 5)


# Every way to say what is near what.


def test_a_draw_of_centres_is_the_documented_one() -> None:
    x, ctrs = random(50, 8), random(2000, 8)
    generator = torch.Generator(DEVICE).manual_seed(3)
    drawn = torch.randperm(2000, device=DEVICE, generator=generator)[:300].sort().values.cpu()
    expected = drawn[knn_mc(x, ctrs[drawn], 6, 300)]
    assert_same(knn_do(*there(x, ctrs), 6, 100, 300, generator=generator.manual_seed(3)), expected)
    torch.manual_seed(3)
    assert_same(knn_do(*there(x, ctrs), 6, 100, 300), expected)
    assert_same(knn(*there(x, ctrs), 6, sample=300, generator=generator.manual_seed(3)).indices.T, expected)


@pytest.mark.parametrize(
    ("shape", "ctrs_shape", "options"),
    [
        ((3, 40, 5), (3, 60, 5), {}),
        ((2, 3, 7, 2), (60, 2), {"metric": "cosine"}),
        ((7, 2), (4, 90, 2), {}),
        ((3, 30, 5), None, {}),
        ((200, 3), None, {"include_self": True}),
        ((3, 30, 5), (3, 60, 5), {"lengths": torch.tensor([30, 0, 7]), "ctrs_lengths": torch.tensor([4, 60, 33])}),
        ((60, 4), None, {"x_batch": torch.arange(60) // 7}),
        ((60, 4), (90, 4), {"x_batch": torch.arange(60) // 20, "ctrs_batch": torch.arange(90) // 45}),
        ((30, 4), (300, 4), {"mask": torch.arange(300) % 3 > 0}),
        ((2, 30, 4), (2, 300, 4), {"mask": (torch.arange(30)[:, None] + torch.arange(300)) % 7 == 0}),
        ((0, 4), (9, 4), {}),
        ((4, 0), (9, 0), {}),
        ((4, 3), (2, 3), {}),
    ],
    ids=str,
)
def test_batches_masks_and_missing_neighbours_are_those_of_the_cpu(
    shape: tuple[int, ...], ctrs_shape: tuple[int, ...] | None, options: dict[str, object]
) -> None:
    assert_same_search(random(*shape), None if ctrs_shape is None else random(*ctrs_shape), 6, **options)


def test_views_of_any_strides_are_read_in_place() -> None:
    x, ctrs = random(6, 40), random(2000, 12)
    expected = knn_mc(x.T, ctrs[::2, ::2], 5, 1000)
    x_there, ctrs_there = there(x, ctrs)
    assert_same(knn_mc(x_there.T, ctrs_there[::2, ::2], 5, 1000), expected)
    negated = torch.complex(ctrs_there, -ctrs_there).conj().imag  # is_neg()
    assert_same(knn_mc(x_there.T, negated[::2, ::2], 5, 1000), expected)


@pytest.mark.filterwarnings("ignore:Sparse")  # torch warns of itself
def test_graphs_are_those_of_the_cpu() -> None:
    x = random(100, 3)
    assert_same(knn_graph(x.to(DEVICE), 4), knn_graph(x, 4))
    got, expected = (knn_graph(t, 4, form="torch", mode="distance") for t in (x.to(DEVICE), x))
    for part in ("crow_indices", "col_indices", "values"):
        assert_same(getattr(got, part)(), getattr(expected, part)())


def test_files_are_searched_on_the_device_with_the_same_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", random(300, 12).numpy())
    np.save(tmp_path / "ctrs.npy", random(5000, 12).numpy())
    for device in ("cpu", DEVICE):
        out = {"out": tmp_path / f"{device}.npy", "distances": tmp_path / f"{device}-far.npy"}
        search_files(tmp_path / "ctrs.npy", tmp_path / "x.npy", k=5, max_memory="4MiB", device=device, **out)
    for name in ("", "-far"):
        assert (tmp_path / f"cpu{name}.npy").read_bytes() == (tmp_path / f"{DEVICE}{name}.npy").read_bytes()


# Derivatives and modules: sums, whose order is the device's own.


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_and_second_derivatives_are_those_of_the_cpu(dtype: torch.dtype, metric: str) -> None:
    def derivatives(device: str) -> tuple[Tensor, ...]:
        x, ctrs = (random(n, 5, dtype=dtype).to(device).requires_grad_() for n in (300, 60))
        found = knn(x, ctrs, 4, metric=metric).distances
        first = torch.autograd.grad((found * found.detach().cos()).sum(), (x, ctrs), create_graph=True)
        return *first, *torch.autograd.grad(sum(g.square().sum() for g in first), (x, ctrs))

    tolerance = {"rtol": 1e-4, "atol": 1e-3} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-11}
    again = derivatives(DEVICE)
    for got, other, expected in zip(derivatives(DEVICE), again, derivatives("cpu"), strict=True):
        torch.testing.assert_close(got.cpu(), expected, **tolerance)
        assert torch.equal(got, other), "the same call twice gave different bits"


def test_zero_and_missing_distances_pull_at_nothing() -> None:
    x = random(20, 3).to(DEVICE).requires_grad_()
    found = knn(x, x.detach().clone(), 30)
    assert (found.distances[:, 0] == 0).all()
    assert (found.indices[:, 20:] == -1).all()
    found.distances[:, [0, *range(20, 30)]].sum().backward()
    assert (x.grad == 0).all()


def trained(device: str) -> list[Tensor]:
    ctrs, x, targets = random(50, 3), random(400, 3), random(400, 2)
    f = PiecewiseLinear(torch.nn.Parameter(ctrs), 2, 3).to(device)
    optimizer = torch.optim.SGD(f.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        log_cosh(f(x.to(device)) - targets.to(device)).mean().backward()
        optimizer.step()
    return [parameter.detach() for parameter in f.parameters()]


def test_modules_move_to_the_device_and_train_there() -> None:
    for got, expected in zip(trained(DEVICE), trained("cpu"), strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-6)
    module = NearestCenters(random(70, 3), 4, n_ctrs_used=20)
    expected = module.eval()(random(30, 3))
    moved = module.to(DEVICE)
    for got, right in zip(moved(random(30, 3).to(DEVICE)), expected, strict=True):
        assert_same(got, right)
    assert moved.train()(random(30, 3).to(DEVICE)).indices.unique().numel() <= 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_cosh_and_its_gradient_are_within_two_ulp(dtype: torch.dtype) -> None:
    u = torch.rand(300_000, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    x = torch.cat([torch.exp2(u * 20 - 14), -torch.exp2(u * 240 - 120)]).to(dtype)
    leaf = x.to(DEVICE, copy=True).requires_grad_()
    y = log_cosh(leaf)
    assert error_in_ulp(y.cpu(), x).max() <= 2
    (g,) = torch.autograd.grad(y.sum(), leaf)
    right = np.tanh(x.numpy().astype(np.longdouble))
    assert (np.abs(g.cpu().numpy() - right) / ulp(np.abs(right), dtype)).max() <= 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_precision_log_cosh_is_correctly_rounded(dtype: torch.dtype) -> None:
    x = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    got, finite = log_cosh(x.to(DEVICE)).cpu(), x.isfinite()
    assert torch.equal(got[finite], rounded(truth(x[finite]), dtype))
    assert torch.equal(got[~finite].isnan(), x[~finite].isnan())
    assert (got[x.isinf()] == torch.inf).all()
