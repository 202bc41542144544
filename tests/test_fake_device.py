"""On an accelerator, here one made of a CPU: the same bytes, one thread, and a host that hardly waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import fake_device
from fake_device import to_device, to_host, watched
from janelia_core.ml import knn
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._runtime import machine, transforms
from janelia_core.ml.extra_torch_functions import knn_mc
from oracle import nearest
from problems import PROBLEMS

pytestmark = pytest.mark.skipif(not fake_device.AVAILABLE, reason="torch has no backend in Python here")

MOST_WAITS = 8
METRICS = ("euclidean", "dot", "cosine")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors of the device count as ordinary ones, which their Python type does not say."""
    fake_device.begin()
    monkeypatch.setattr(transforms, "_PLAIN", (*transforms._PLAIN, fake_device.OnDevice))
    yield
    machine._tells_float64.cache_clear()


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def there(*tensors: Tensor) -> list[Tensor]:
    return [to_device(t) for t in tensors]


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_answer_is_the_exact_one(name: str) -> None:
    x, ctrs, k, answer = PROBLEMS[name]()
    expected = nearest(x, ctrs, k) if answer is None else answer
    with watched() as seen:
        found = knn_mc(*there(x, ctrs), k, len(ctrs))
    assert torch.equal(to_host(found), expected)
    assert seen.threads == {threading.get_ident()}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("times", [1, 2])
def test_the_host_waits_a_fixed_number_of_times(metric: str, times: int) -> None:
    x, ctrs = random(300 * times, 24 * times), random(2000 * times, 24 * times)
    machine.has_float64(torch.device(fake_device.DEVICE))  # asked once a process
    with watched() as seen:
        found = knn(*there(x, ctrs), 5, metric=metric, mask=everything).indices
    expected = knn(x, ctrs, 5, metric=metric).indices
    assert torch.equal(to_host(found), expected)
    in_search = [wait for wait in seen.waits if "/distances/" not in wait]
    assert len(in_search) == {"euclidean": 3, "cosine": 2, "dot": 5}[metric] <= MOST_WAITS, in_search


def everything(rows: Tensor, first: int, last: int) -> Tensor:
    return torch.ones(len(rows), last - first, dtype=torch.bool, device=rows.device)
