"""Where bounds of the GPU screens are most easily too tight: found by a hostile reader, and kept."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs the extra gpu-test")

from interpreted import interpreted
from janelia_core.ml._knn.choose import plan_with
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import COSINE
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.screens.boxes.offer import BOXES
from janelia_core.ml._knn.screens.portable.offer import PORTABLE
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.machine import Machine
from oracle import nearest
from triton_search import GPU, TURNS, WHOLE, searched

BY_NORM = {"biased": False, "cap": 64, "keep": 64}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows_beside_an_outlier() -> list[bool]:
    """A centre far out in a tile makes its lower bound so low that what is added to it is rounded away."""
    right = []
    for seed in range(2):
        g = torch.Generator().manual_seed(seed)
        ctrs = torch.randint(-7, 8, (512, 3), generator=g).float()
        ctrs[torch.randperm(512, generator=g)[0]] = torch.tensor([2.0**15, 2.0**14, 0.0])  # float16 holds it
        outermost = ctrs.norm(dim=1).argsort(descending=True)[1:7]
        x = ctrs[outermost] + torch.tensor([1.0, 0.0, 0.0]) * ctrs[outermost].sign()
        right += [
            torch.equal(searched(x, ctrs, 1, **how, **BY_NORM).indices, nearest(x, ctrs, 1)) for how in (WHOLE, TURNS)
        ]
    return right


def test_an_outlier_among_centres_costs_no_row_its_neighbour() -> None:
    assert interpreted(rows_beside_an_outlier) == [True] * 4


def far_and_farther() -> list[bool]:
    """A row may be answered with one of two far centres, one of them out of range."""
    ctrs = torch.nn.functional.normalize(drawn(256, 2), dim=1) * 6.0
    ctrs[200], ctrs[17] = torch.tensor([2.0**39.8, 0.0]), torch.tensor([2.0**43, 0.0])
    x, table = torch.zeros(1, 2), torch.zeros(1, 256, dtype=torch.bool)
    table[0, [17, 200]] = True

    def allowed(rows: Tensor, start: int, stop: int) -> Tensor:
        return table[rows, start:stop]

    expected = nearest(x, ctrs, 1, "euclidean", table)
    return [torch.equal(searched(x, ctrs, 1, allowed=allowed, **how).indices, expected) for how in (WHOLE, TURNS)]


def test_a_centre_out_of_range_raises_no_threshold() -> None:
    assert interpreted(far_and_farther) == [True, True]


def wide_integers_in_boxes() -> bool:
    """Integers that are one float64 and not one number."""
    warnings.simplefilter("ignore")
    g = torch.Generator().manual_seed(0)
    ctrs = (1 << 60) + torch.randint(-(1 << 20), 1 << 20, (3000, 2), generator=g)
    x = ctrs[:6] + 1
    ctrs[1000:1006] = x  # nearest, and behind others that float64 takes for the same
    plan = plan_with(Problem(6, 3000, 2, 3, 3000, Machine(gpu=GPU), False, 1 << 28), [BOXES, PORTABLE])
    assert plan.screen == "boxes"
    return torch.equal(search(Points(x), Centres(Points(ctrs)), plan), nearest(x, ctrs, 3))


def test_integers_that_float64_rounds_are_not_taken_for_ties() -> None:
    assert interpreted(wide_integers_in_boxes)


def near_ties_behind_the_last() -> list[bool]:
    """The nearest two are copies; a third is nearer, and seems not to be: it is found, or the row is in doubt."""
    from janelia_core.ml._knn.screens.rerank.found import Found, reranked

    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    ctrs = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0 - 2.0**-52]], dtype=torch.float64)
    right = []
    for keep in (8, 512):  # ranked, and sorted
        centres = torch.arange(keep, dtype=torch.int32)[None]
        found = Found(centres, torch.tensor([3], dtype=torch.int32), torch.zeros(1, dtype=torch.int32))
        answer = reranked(x, ctrs, found, 1, COSINE)
        right.append(bool(found.doubt) or answer.tolist() == [[2]])
    return right


def test_copies_at_the_last_place_hide_nobody_behind_them() -> None:
    assert interpreted(near_ties_behind_the_last) == [True, True]
