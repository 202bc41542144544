"""Boxes of centres on a GPU: their kernels are interpreted, or compiled for GPUs that are not here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import oracle
from interpreted import interpreted
from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.plan.demand import Cost
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.screens.boxes import cost
from janelia_core.ml._knn.screens.boxes.shapes import shape_for
from janelia_core.ml._runtime.gpu import Gpu
from janelia_core.ml._runtime.machine import Machine
from problems import PROBLEMS

pytest.importorskip("triton", reason="needs the extra gpu-test")
NONE_IN_DOUBT = ("far-offset",)
SOME_IN_DOUBT = ("not-finite-torch.float64",)
ALL_IN_DOUBT = ("subnormals-torch.float32",)


def problem(n: int, n_ctrs: int, d: int, k: int) -> Problem:
    return Problem(n, n_ctrs, d, k, 64, Machine(gpu=Gpu()))


def swept(name: str, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is found (k, n), and which rows are in doubt; rows walk in tiles of `rows`."""
    from janelia_core.ml._knn.screens.boxes.screen import PreparedBoxes

    x, ctrs, k, _ = PROBLEMS[name]()
    shape = shape_for(len(x), len(ctrs), k)
    shape = shape._replace(rows=rows, bounded=min(rows, shape.bounded), tightened=min(rows, shape.tightened))
    plan = SimpleNamespace(k=k, own=cost.Settings(shape, rows=64, tiles=1))
    answers = Answers(torch.empty(k, len(x), dtype=torch.int64))
    meeting = PreparedBoxes(Points(ctrs)).meet(SimpleNamespace(x=Points(x), plan=plan, report=None))
    return answers.out, meeting.sweep(answers)


def all_swept(names: tuple[str, ...], rows: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [swept(name, rows) for name in names]


def test_rows_are_answered_exactly_or_in_doubt() -> None:
    names = NONE_IN_DOUBT + SOME_IN_DOUBT + ALL_IN_DOUBT
    for name, (found, left) in zip(names, interpreted(all_swept, names, 32), strict=True):
        x, ctrs, k, _ = PROBLEMS[name]()
        wrong = (found != oracle.nearest(x, ctrs, k)).any(dim=0)
        wrong[left] = False
        assert not wrong.any(), name
        assert (len(left) > 0, len(left) < len(x)) == (name not in NONE_IN_DOUBT, name not in ALL_IN_DOUBT), name


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_do_without_a_stack(capability: int) -> None:
    from janelia_core.ml._knn.screens.boxes.kernels.tighten import tighten
    from janelia_core.ml._knn.screens.boxes.kernels.walk import walk_boxes
    from triton_compile import compiled

    shape = shape_for(10**6, 10**6, 16)
    integers = ("n_room", "m_room", "nodes", "leaves", "above", "top", "first_tile", "first_row", "last_row", "n")
    types = dict.fromkeys(integers, "i32") | dict.fromkeys(("lists", "counts", "numbers", "found", "n_found"), "*i32")
    types |= {"order": "*i64", "doubt": "*i32"}
    for kernel, constants in (
        (walk_boxes, {"D": 3, "T": shape.rows, "CAP": shape.cap, "INLINE": True}),
        (tighten, {"K": 16, "T": shape.rows, "CAP": shape.cap, "KEEP": shape.keep, "R": shape.tightened,
                   "SOME": shape.at_a_time, "ROUNDED": False}),
    ):  # fmt: skip
        arguments = {name: types.get(name, "*fp32") for name in kernel.arg_names if name not in constants}
        made = compiled(kernel, arguments, constants, capability, num_warps=1, enable_fp_fusion=True)
        assert (made.fits, made.stack, made.spills) == (True, 0, 0), str(made)
        assert made.registers <= 168  # twelve programs or more at a time


def test_boxes_serve_few_dimensions() -> None:
    for sizes in ((10**6, 10**6, 3, 16), (1, 2048, 8, 256), (7, 5000, 1, 1)):
        assert not cost.why_not(problem(*sizes), 1)
    for sizes in ((100, 10**6, 9, 5), (100, 2000, 3, 5), (100, 10**5, 3, 600), (100, 4000, 3, 501)):
        assert cost.why_not(problem(*sizes), 1)
    assert cost.why_not(problem(100, 10**6, 3, 5)._replace(masked=True), 1)
    assert cost.why_not(problem(100, 10**6, 3, 5)._replace(metric="dot"), 1)


def test_what_boxes_ask_for_fits_or_is_declined() -> None:
    asked = problem(10**6, 10**6, 3, 16)
    for room in (1 << 28, 1 << 30, 1 << 34):
        demand = cost.demand(asked, room, 1, Cost(float("inf")))
        assert not isinstance(demand, str)
        assert demand.held <= room
    assert isinstance(cost.demand(asked, 1 << 20, 1, Cost(float("inf"))), str)
    assert cost.demand(asked, 1 << 34, 1, Cost(1.0)) == ""
