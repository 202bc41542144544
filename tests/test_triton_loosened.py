"""Bounds of the Triton screen that are loosened on purpose give wrong neighbours: each is needed, and tested."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs the extra gpu-test")

from interpreted import interpreted
from janelia_core.ml._knn.data.mask import Table
from janelia_core.ml._knn.screens.rerank import found
from janelia_core.ml._knn.screens.triton import launches
from oracle import nearest
from triton_search import TURNS, WHOLE, searched

Planted = Callable[..., Any]


def shell(d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Centres about equally far from a row, on one side of it: float16 cannot tell which is the nearest."""
    g = torch.Generator().manual_seed(seed)
    side = torch.nn.functional.normalize(torch.randn(100, d, generator=g).abs(), dim=1)
    return torch.zeros(1, d), side * (1.0 + 1e-5 * torch.rand(100, 1, generator=g))


def midpoints() -> tuple[Tensor, Tensor]:
    """Two centres close to where float16 rounds up or down, the nearer one away from the row: no bound is tighter."""
    ctrs = torch.zeros(100, 1)
    ctrs[3], ctrs[40] = -(7.0 + 2.0**-9 + 2.0**-20), -(7.0 + 2.0**-9 - 2.0**-20)
    return torch.full((1, 1), -6.0), ctrs


def near_ties() -> tuple[Tensor, Tensor]:
    """Two centres whose distances differ by 2^-116, nearer than others: two float64 numbers cannot tell."""
    ctrs = 2.0 + torch.rand(100, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ctrs[3] = torch.tensor([1.0, 2.0**-30, 2.0**-58])
    ctrs[9] = torch.tensor([1.0, 2.0**-30, 0.0])
    return torch.zeros(1, 3, dtype=torch.float64), ctrs


def narrow_tiles(extremes_of: Planted, *given: Any) -> Tensor:
    extremes: Tensor = extremes_of(*given)
    extremes[:, :2] = 0.0
    return extremes


def narrow_centres(members: Planted, x: Any, packed: Any, *rest: Any) -> Any:
    numbers = packed.numbers.clone()
    numbers[:2] = 0.0
    return members(x, packed._replace(numbers=numbers), *rest)


def narrow_rows(packed_points: Planted, *given: Any, centres: bool) -> Any:
    operands, numbers = packed_points(*given, centres=centres)
    if not centres:
        numbers[:2] = 0.0
    return operands, numbers


def without_error(verified: Planted, *given: Any) -> Any:
    high, low, error = verified(*given)
    return high, low, error.zero_()


def all_ties(looked_at: Planted, x: Tensor, ctrs: Tensor, ordered: Any, doubt: Tensor, *rest: Any) -> None:
    doubt.zero_()


def raised(chosen: Planted, x: Any, *rest: Any) -> None:
    chosen(x, *rest)
    x.thresholds.add_(x.thresholds.abs() * 0.05 + 1.0)


def outcome(data: str, where: str, plant: Callable[..., Any] | None, hidden: bool) -> list[bool]:
    """Whether answers of some problems are wrong with a plant in a function."""
    warnings.simplefilter("ignore")
    wrong = []
    for x, ctrs in {"shell": [shell(2), shell(8)], "midpoints": [midpoints()], "near ties": [near_ties()]}[data]:
        shown = torch.ones(len(x), len(ctrs), dtype=torch.bool)
        allowed = Table(shown) if hidden else None
        searched(x, ctrs, 1, allowed=allowed, **WHOLE)  # the canary sings, undisturbed
        room = found if hasattr(found, where) and not hasattr(launches, where) else launches
        real = getattr(room, where)
        put = real if plant is None else (lambda *a, **named: plant(real, *a, **named))  # noqa: B023
        with patch.object(room, where, put):
            got = searched(x, ctrs, 1, allowed=allowed, **TURNS | {"cap": 64, "keep": 128}).indices
        wrong.append(not torch.equal(got, nearest(x, ctrs, 1)))
    return wrong


PLANTS = [
    ("shell", "extremes_of", narrow_tiles, False),
    ("midpoints", "members", narrow_centres, False),
    ("shell", "packed_points", narrow_rows, False),
    ("shell", "chosen_first", raised, True),
    ("near ties", "verified", without_error, False),
    ("near ties", "ties_looked_at", all_ties, False),
]


@pytest.mark.parametrize(
    ("data", "where", "plant", "hidden"), PLANTS, ids=[plant.__name__ for _, _, plant, _ in PLANTS]
)
def test_a_bound_that_is_loosened_gives_a_wrong_neighbour(
    data: str, where: str, plant: Callable[..., Any], hidden: bool
) -> None:
    assert any(interpreted(outcome, data, where, plant, hidden))


@pytest.mark.parametrize(
    ("data", "hidden"), [("shell", False), ("shell", True), ("midpoints", False), ("near ties", False)]
)
def test_bounds_as_they_are_give_none(data: str, hidden: bool) -> None:
    assert not any(interpreted(outcome, data, "members", None, hidden))
