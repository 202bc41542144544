"""The Triton screen answers the same whatever is left out, hidden, or short on memory, in any order of its lists."""

from __future__ import annotations

import warnings
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs the extra gpu-test")

from interpreted import interpreted
from janelia_core.ml._knn.data.mask import Table
from janelia_core.ml._knn.screens.triton import launches
from janelia_core.ml._knn.screens.triton.launches import Listed
from oracle import nearest
from problems import gaussian
from triton_search import TURNS, WHOLE, searched

SHORT = {"cap": 1, "keep": 4}
"""Lists that are full at once: rows are searched once more."""


def table(n: int, n_ctrs: int) -> Tensor:
    """A mask that leaves the first row two centres, the second none, and others most of them."""
    shown = torch.rand(n, n_ctrs, generator=torch.Generator().manual_seed(3)) > 0.3
    shown[0], shown[1] = False, False
    shown[0, [7, 150]] = True
    return shown


def masked() -> list[str]:
    """What is wrong with masks, by the way they came."""
    x, ctrs, *_ = gaussian(n=4)
    shown = table(4, len(ctrs))
    asked = {"a table": Table(shown), "a function": lambda rows, start, stop: shown[rows, start:stop]}
    expected = nearest(x, ctrs, 3, allowed=shown)
    found = {f"{kind}, {w}": searched(x, ctrs, 3, allowed=of, **how) for kind, of in asked.items() for w, how in HOW}
    return [name for name, one in found.items() if not torch.equal(one.indices, expected) or one.left]


HOW = (("whole", WHOLE), ("in turns", TURNS))


def left_out() -> list[str]:
    """What is wrong where some centres are dropped, of both layouts, with a mask too, or a row is a centre itself."""
    x, ctrs, *_ = gaussian(n=4)
    subset, said = torch.arange(len(ctrs))[torch.arange(len(ctrs)) % 3 != 1], []
    some, shown = torch.zeros(4, len(ctrs), dtype=torch.bool), table(4, len(ctrs))
    some[:, subset] = True
    for biased in (True, False):
        found = searched(x, ctrs, 3, subset=subset, **TURNS | {"biased": biased})
        if found.left or not torch.equal(found.indices, nearest(x, ctrs, 3, allowed=some)):
            said.append(f"a subset, biased: {biased}")
    found = searched(x, ctrs, 3, subset=subset, allowed=Table(shown), **TURNS)
    if not torch.equal(found.indices, nearest(x, ctrs, 3, allowed=some & shown)):
        said.append("a subset and a mask")
    points = torch.cat([ctrs[:90], ctrs[:6], ctrs[:6]])[:97]
    others = ~torch.eye(len(points), dtype=torch.bool)
    found = searched(points, points, 2, but_self=True, **TURNS)
    if found.left or not torch.equal(found.indices, nearest(points, points, 2, allowed=others)):
        said.append("a graph")
    return said


def shaped() -> list[str]:
    """What is wrong of other sizes and settings: wrong answers, and rows in doubt that need not be."""
    asked = {
        "many neighbours": (gaussian(n=2, n_ctrs=420), 110, TURNS | {"first": 7}),
        "many columns": (gaussian(n=3, d=200), 3, TURNS),
        "many columns, fetched": (gaussian(n=3, d=200), 3, TURNS | {"fetched": True}),
        "fetched": (gaussian(n=3), 3, TURNS | {"fetched": True}),
        "few rows": (gaussian(n=1), 3, WHOLE | {"parts": 5}),
        "blocks of rows": (gaussian(n=5), 3, TURNS | {"rows": 2}),
        "more rows than a tile": (gaussian(n=19, n_ctrs=100), 1, TURNS),
        "more parts than tiles": (gaussian(n=2, n_ctrs=100), 3, TURNS | {"parts": 9}),
        "full lists": (gaussian(n=5), 3, TURNS | SHORT | {"again": 2}),
    }
    said = []
    for name, (problem, k, how) in asked.items():
        found = searched(problem.x, problem.ctrs, k, **how)
        if found.left or not torch.equal(found.indices, nearest(problem.x, problem.ctrs, k)):
            said.append(f"{name}: {found.left}")
    return said


def test_masks_hide_centres_and_nothing_else() -> None:
    warnings.simplefilter("ignore")
    assert interpreted(masked) == []


def test_centres_that_are_left_out_are_not_found() -> None:
    assert interpreted(left_out) == []


def test_other_sizes_and_settings_give_the_same_answer_and_leave_nobody_in_doubt() -> None:
    assert interpreted(shaped) == []


def searched_again() -> list[int]:
    """How many rows each launch of the first scan had, where lists are too short."""
    problem, counts, scanned = gaussian(n=5), [], launches.scanned

    def counted(x: Listed, *rest: object) -> None:
        counts.append(len(x.operands))
        scanned(x, *rest)  # type: ignore[arg-type]

    with patch.object(launches, "scanned", counted):
        searched(problem.x, problem.ctrs, 3, **TURNS | SHORT | {"again": 2})
    return counts


def test_rows_whose_lists_are_full_are_searched_once_more_in_blocks() -> None:
    counts = interpreted(searched_again)
    assert counts[-1] in (1, 2)
    assert set(counts[-2:]) <= {1, 2}


def shuffled() -> tuple[bool, int]:
    """Whether the answer is the same if entries of lists change places between launches, and how many did."""
    problem, g, moved = gaussian(n=3), torch.Generator().manual_seed(4), 0
    scanned, chosen = launches.scanned, launches.chosen_first

    def shuffle(x: Listed) -> None:
        nonlocal moved
        places = x.counts.clamp(max=x.lists.shape[3])
        for at in (places > 1).nonzero().tolist():
            entries, length = x.lists[tuple(at)], int(places[tuple(at)])
            order = torch.randperm(length, generator=g)
            entries[:length] = entries[:length][order]
            moved += int((order != torch.arange(length)).sum())

    def then(x: Listed, *rest: object) -> None:
        scanned(x, *rest)  # type: ignore[arg-type]
        if not rest[-1]:
            shuffle(x)

    def first(x: Listed, *rest: object) -> None:
        chosen(x, *rest)  # type: ignore[arg-type]
        shuffle(x)

    searched(problem.x, problem.ctrs, 1, **WHOLE)  # the canary sings, undisturbed
    with patch.object(launches, "scanned", then), patch.object(launches, "chosen_first", first):
        found = searched(problem.x, problem.ctrs, 9, **TURNS)
    return torch.equal(found.indices, nearest(problem.x, problem.ctrs, 9)) and not found.left, moved


def test_the_order_in_which_lists_were_filled_does_not_matter() -> None:
    same, moved = interpreted(shuffled)
    assert same
    assert moved > 10
