"""Plans whose fields are changed, so that every screen, rung and block size can be tried on every problem."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from janelia_core.ml._knn.choose import SCREENS
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.mask import Allowed
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.dense import cost as dense
from janelia_core.ml._knn.screens.dense.cost import Panels
from janelia_core.ml._knn.search import search
from janelia_core.ml._simd.dot_tiles import compiles

NOT_HERE = ("boxes", "triton") if compiles("int8") else ("boxes", "triton", "sieve")
SCREENS_HERE = tuple(screen for screen in SCREENS if screen.name not in NOT_HERE)
"""Those that run on this CPU; the others list nothing, and are asked by test_triton_boxes and test_triton_screen."""

OF_CREW = ("workers", "pooled", "chunk")
OF_BLOCKS = ("row_block", "verified_rows", "fallback_rows", "fallback_ctrs", "fallback_pairs", "escalated_rows")
OF_PRODUCTS = ("ctr_block", "width", "operand_bits", "keep_packed")
OF_PANELS = ("panel", "pack_bytes", "formats", "cells")


def changed(plan: Plan, **fields: Any) -> Plan:
    """Return a plan with some fields changed, wherever they stand; of another screen, with settings of its own.

    Blocks of a few centres grow with these, so that eight are left: a thousand show nothing else.
    """
    problem = plan.problem
    if "fallback_ctrs" in fields:
        fields["fallback_ctrs"] = max(fields["fallback_ctrs"], problem.n_ctrs // 7)
    if fields.get("width") == -1:
        fields["width"] = min(problem.k, problem.n_ctrs)  # as few candidates as can be
    if "kernels" in fields:
        plan = replace(plan, problem=problem._replace(machine=replace(problem.machine, kernels=fields.pop("kernels"))))
    if fields.get("screen", plan.screen) != plan.screen:
        panels = Panels(dense._PANELS[0], 0, dense.formats(problem))
        plan = replace(plan, sifts=fields["screen"] in ("tree", "dense"))
        plan = replace(plan, own=panels if fields["screen"] == "dense" else None, otherwise=None)
    parts: dict[str, dict[str, Any]] = {"crew": {}, "blocks": {}, "products": {}, "own": {}}
    for part, names in (("crew", OF_CREW), ("blocks", OF_BLOCKS), ("products", OF_PRODUCTS), ("own", OF_PANELS)):
        for name in names:
            if name in fields:
                parts[part]["rows" if name == "row_block" else name] = fields.pop(name)
    nested = {part: getattr(plan, part)._replace(**own) for part, own in parts.items() if own}
    return replace(plan, **nested, **fields)


def run(x: Tensor, ctrs: Tensor, plan: Plan, allowed: Allowed | None = None) -> Tensor:
    """Search all of ctrs by a plan."""
    return search(Points(x), Centres(Points(ctrs)), plan, allowed)


def rows_of(x: Tensor) -> Rows:
    """Return all rows as a block."""
    return Rows(x, torch.arange(len(x)))
