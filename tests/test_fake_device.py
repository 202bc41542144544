"""On an accelerator, here one made of a CPU: the same bytes, one thread, and a host that hardly waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import fake_device
from fake_device import DEVICE, Seen, to_device, to_host, watched
from janelia_core.ml import knn
from janelia_core.ml._knn.face import checked_memory
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._runtime import machine, transforms
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml.extra_torch_functions import knn_mc
from oracle import nearest
from problems import PROBLEMS

pytestmark = pytest.mark.skipif(not fake_device.AVAILABLE, reason="torch has no backend in Python here")

MIB = 1 << 20


def odd_pairs(rows: Tensor, first: int, last: int) -> Tensor:
    return (rows[:, None] + torch.arange(first, last, device=rows.device)) % 2 > 0


MOST_WAITS, MOST_LAUNCHES, K = 8, 300, 5


def numbers(x: Tensor) -> Tensor:
    return torch.arange(len(x), device=x.device)


SEARCHES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of rows among centres, or among themselves
    "euclidean": lambda x, ctrs: knn(x, ctrs, K).indices,
    "dot": lambda x, ctrs: knn(x, ctrs, K, metric="dot").indices,
    "cosine": lambda x, ctrs: knn(x, ctrs, K, metric="cosine").indices,
    "self": lambda x, ctrs: knn(ctrs, k=K).indices,
    "mask": lambda x, ctrs: knn(x, ctrs, K, mask=odd_pairs).indices,
    "table": lambda x, ctrs: knn(x, ctrs, K, mask=odd_pairs(numbers(x), 0, len(ctrs))).indices,
    "integers": lambda x, ctrs: knn_mc((100 * x).to(torch.int16), (100 * ctrs).to(torch.int16), K, len(ctrs)).T,
}
SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # float64, in which these points have no near-ties
    "euclidean": torch.cdist,
    "dot": lambda x, ctrs: -x @ ctrs.T,
    "cosine": lambda x, ctrs: -normalize(x) @ normalize(ctrs).T,
    "self": lambda x, ctrs: torch.cdist(ctrs, ctrs).fill_diagonal_(torch.inf),
    "mask": lambda x, ctrs: torch.cdist(x, ctrs).masked_fill(~odd_pairs(numbers(x), 0, len(ctrs)), torch.inf),
    "table": lambda x, ctrs: torch.cdist(x, ctrs).masked_fill(~odd_pairs(numbers(x), 0, len(ctrs)), torch.inf),
    "integers": lambda x, ctrs: ((100 * x).float().trunc()[:, None] - (100 * ctrs).float().trunc()).square().sum(-1),
}


def expected(name: str, x: Tensor, ctrs: Tensor) -> Tensor:
    return SCORES[name](x.double(), ctrs.double()).sort(dim=1, stable=True).indices[:, :K]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors of the device count as ordinary ones, which their Python type does not say."""
    fake_device.begin()
    monkeypatch.setattr(transforms, "_PLAIN", (*transforms._PLAIN, fake_device.OnDevice))
    machine.has_float64(torch.device(DEVICE))  # asked once a process
    yield
    machine._tells_float64.cache_clear()


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def there(*tensors: Tensor) -> list[Tensor]:
    return [to_device(t) for t in tensors]


def waits_of(name: str, times: int) -> list[str]:
    """Search on the device, hold the answer to that of the CPU, and tell where the search was waited for."""
    x, ctrs = random(150 * times, 24 * times), random(1000 * times, 24 * times)
    with watched() as seen:
        found = SEARCHES[name](*there(x, ctrs))
    assert torch.equal(to_host(found), expected(name, x, ctrs))
    assert seen.threads == {threading.get_ident()}
    return [wait for wait in seen.waits if "/distances/" not in wait]


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_answer_is_the_exact_one(name: str) -> None:
    x, ctrs, k, answer = PROBLEMS[name]()
    expected = nearest(x, ctrs, k) if answer is None else answer
    with watched() as seen:
        found = knn_mc(*there(x, ctrs), k, len(ctrs))
    assert torch.equal(to_host(found), expected)
    assert seen.threads == {threading.get_ident()}


@pytest.mark.parametrize("name", SEARCHES)
def test_the_host_waits_a_few_times_whatever_the_sizes(name: str) -> None:
    once, twice = waits_of(name, 1), waits_of(name, 2)
    assert len(once) == len(twice) <= MOST_WAITS, (once, twice)


def test_launches_are_few_where_the_memory_allows() -> None:
    def launches(n: int, n_ctrs: int) -> int:
        with watched() as seen:
            knn_mc(*there(random(n, 32), random(n_ctrs, 32)), 5, n_ctrs, max_memory=1024 * MIB)
        return seen.n_launches

    assert launches(1000, 9000) == launches(500, 4500) < MOST_LAUNCHES


def without_float64(x: Tensor, ctrs: Tensor) -> tuple[Tensor, Seen, str]:
    machine._tells_float64.cache_clear()
    with watched(forbidden=(torch.float64,)) as seen, watch_knn() as reports:
        found = knn(*there(x, ctrs), 5).indices
    assert torch.float64 not in seen.dtypes
    return to_host(found), seen, str(reports[0])


def test_a_device_without_float64_has_it_done_on_the_cpu_which_the_plan_says() -> None:
    for n_ctrs, d in ((40, 3), (1000, 24)):
        x, ctrs = random(100, d), random(n_ctrs, d)
        found, _, report = without_float64(x, ctrs)
        assert torch.equal(found, expected("euclidean", x, ctrs))
        assert "float64: on the CPU" in report


@pytest.mark.parametrize("name", ["euclidean", "dot", "cosine", "self"])
def test_deterministic_algorithms_can_be_asked_for(name: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        waits_of(name, 1)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("max_memory", [MIB, 4 * MIB])
def test_little_memory_changes_no_answer(max_memory: int) -> None:
    x, ctrs = random(100, 40), random(2000, 40)
    found = knn_mc(*there(x, ctrs), K, len(ctrs), max_memory=max_memory)
    assert torch.equal(to_host(found).T, expected("euclidean", x, ctrs))


def test_the_device_tells_what_it_is_asked_to_tell() -> None:
    x = to_device(random(8, 3))
    with watched() as seen:
        bool((x > 0).all())
        x[x[:, 0] > 0]
        x.cpu()
        x.sum(0)
    assert [wait.split()[0] for wait in seen.waits] == ["_local_scalar_dense", "index", "_to_copy"]
    assert seen.launches["sum"] == 1
    with pytest.raises(RuntimeError, match="two devices"):
        x + random(8, 3)
    with watched(forbidden=(torch.float64,)), pytest.raises(TypeError, match="float64"):
        x.double()


def test_where_nobody_says_how_much_memory_is_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def has(free: int, reserved: int = 0, allocated: int = 0) -> int:
        module = SimpleNamespace(
            mem_get_info=lambda device: (free * MIB, 1 << 40),
            memory_reserved=lambda device: reserved * MIB,
            memory_allocated=lambda device: allocated * MIB,
        )
        monkeypatch.setattr(torch, "privateuseone", module)
        return checked_memory(None, torch.device(DEVICE)) // MIB

    assert has(40_000) == 18432  # of four bits
    assert has(1000, reserved=40_000, allocated=5000) == 16384  # what torch holds unused is free
    assert has(500) == 256
    assert has(1 << 20) == 64 << 10
    assert checked_memory(None, torch.device("cpu")) == 256 * MIB
    assert checked_memory(5 * MIB, torch.device(DEVICE)) == 5 * MIB


def test_autocast_of_the_tensors_own_device_is_off_while_it_works() -> None:
    before = torch.is_autocast_enabled("hpu")
    torch.set_autocast_enabled("hpu", True)
    try:
        with Workers(1, device=torch.device("hpu")) as workers:
            assert not workers.once(lambda: torch.is_autocast_enabled("hpu"))
        assert torch.is_autocast_enabled("hpu")
    finally:
        torch.set_autocast_enabled("hpu", before)


def test_a_search_within_a_cuda_graph_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CPU records graphs: the question alone is asked here."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(fake_device.OnDevice, "is_cuda", True)
    x, ctrs = there(random(5, 3), random(9, 3))
    for search in (lambda: knn_mc(x, ctrs, 1, 9), lambda: knn(x, ctrs)):
        with watched() as seen, pytest.raises(RuntimeError, match="search before the capture"):
            search()
        assert not seen.waits
