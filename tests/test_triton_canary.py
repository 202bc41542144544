"""A Triton screen whose products or lists are off, or whose kernels fail, gives way, says so, and all is right."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs the extra gpu-test")

from interpreted import interpreted
from janelia_core.ml._knn.screens.triton import launches
from janelia_core.ml._runtime import device_kernels
from oracle import nearest
from problems import gaussian
from triton_search import TURNS, searched

PLANTED: dict[str, Any] = {"__name__": "triton.planted"}
exec("def fail(*given, **named):\n    raise RuntimeError('planted')", PLANTED)  # as if Triton itself raised it


def products_off(out: Tensor, store: bool) -> None:
    if store:
        out[5, 3] += out[5, 3].abs() * 1e-3


def lists_off(out: Tensor, store: bool) -> None:
    if not store:
        out[..., 1] += 8


def withdrawn(spoil: Callable[[Tensor, bool], None] | None) -> tuple[bool, str]:
    """Whether the answer is right where scans are spoiled, and what the report says ran instead."""
    scanned = launches.scanned

    def spoiled(x: Any, c: Any, settings: Any, first: int, last: int, shown: Any, out: Tensor, store: bool) -> None:
        scanned(x, c, settings, first, last, shown, out, store)
        if spoil is not None:
            spoil(out, store)

    x, ctrs, k, _ = gaussian(n=3)
    with patch.object(launches, "scanned", spoiled):
        found = searched(x, ctrs, k, **TURNS)
    return torch.equal(found.indices, nearest(x, ctrs, k)), found.report.screen


def test_products_and_lists_that_are_off_make_the_screen_withdraw() -> None:
    for spoil in (products_off, lists_off):
        right, said = interpreted(withdrawn, spoil)
        assert right
        assert said == "portable: products of this device break their bound"
    assert interpreted(withdrawn, None) == (True, "")


def failing(where: str) -> tuple[bool, list[str], str]:
    """Whether answers are right where a launch fails, what was warned of in two searches, and what the report says."""
    x, ctrs, k, _ = gaussian(n=3)
    with warnings.catch_warnings(record=True) as caught, patch.object(launches, where, PLANTED["fail"]):
        warnings.simplefilter("always")
        found = [searched(x, ctrs, k, **TURNS) for _ in range(2)]
    warned = [str(one.message) for one in caught if "Triton" in str(one.message)]
    right = all(torch.equal(one.indices, nearest(x, ctrs, k)) for one in found)
    return right, warned, found[-1].report.screen + found[-1].report.look


@pytest.mark.parametrize("where", ["scanned", "placed", "members"])
def test_a_launch_that_fails_is_told_once_and_torch_operations_answer(where: str) -> None:
    right, warned, said = interpreted(failing, where)
    assert right
    assert len(warned) == 1
    assert re.match(r"janelia_core does without its Triton kernels .*planted", warned[0])
    assert "planted" in said


def test_a_device_that_triton_does_not_know_is_told_once_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is interpreted here: Triton itself refuses to launch a kernel for a CPU."""
    monkeypatch.setattr(device_kernels, "_given_up", {})
    x, ctrs, k, _ = gaussian(n=3)
    with pytest.warns(UserWarning, match="does without its Triton kernels"):
        found = searched(x, ctrs, k, **TURNS)
    assert torch.equal(found.indices, nearest(x, ctrs, k))
    assert found.report.screen.startswith("portable: ")
