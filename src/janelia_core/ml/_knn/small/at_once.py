"""Small problems: a look at all float64 distances at once, without blocks, screens or threads.

Training loops ask the same small question at every step, so fixed costs count: compiled kernels take a fraction of the
time of torch operations, but loading them takes half a second, more where they must be compiled first. So a process
asks torch until about that much time is spent, unless the kernels are there already or the problem is large enough.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import UNIT32, UNIT64, DistanceBound, gamma
from janelia_core.ml._knn.data.points import as_float64
from janelia_core.ml._knn.metrics.metric import DISTANCE, Metric
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.small.cost import FEW_COLUMNS, PER_PAIR_OF_OPERATIONS, takes_lanes
from janelia_core.ml._knn.small.terms import MODULE, NO_MASK, terms
from janelia_core.ml._runtime.loading import are_ready

_KERNELS = MODULE
_PATIENCE = 0.3  # seconds of torch operations after which the kernels are loaded, which takes about as long
_WITH_NUMBA = 0.002  # of that, where Numba is there already: its import takes longer than these kernels do
_WANTS_KERNELS = 1 << 20  # n_smps * n_ctrs * d from which a single call does

FAR = 2.0**500  # distances: squares that overflow belong to larger ones

_spent = 0.0


def nearest_at_once(x: Tensor, ctrs: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Search a small problem: indices (k, n), and whether (n,) rounding left no doubt of them.

    Args:
        x: (n, d) stored values that float64 holds, on the CPU.
        ctrs: (n_ctrs, d) likewise.
        plan: The plan.
    """
    global _spent
    metric = metric_named(plan.metric)
    lanes = takes_lanes(metric.form, plan.k)
    known = plan.kernels and (lanes or metric.form == DISTANCE)
    if known and (_KERNELS in sys.modules or _wants_kernels(plan, len(x))):
        if lanes and lanes_are_ready(x.dtype, ctrs.dtype):
            return by_lanes(x, ctrs, plan.k, plan.metric)
        if not lanes and _are_ready(x, ctrs, plan):
            return _by_kernels(x, ctrs, plan)
    start = time.perf_counter()
    step = _rows_of_operations(plan)  # fewer than asked for where kernels were planned, which take less memory
    found = [_by_operations(rows, ctrs, plan, metric) for rows in torch.split(x, step)]
    _spent += time.perf_counter() - start
    if len(found) == 1:
        return found[0]
    indices, certain = zip(*found, strict=True)
    return torch.cat(indices, dim=1), torch.cat(certain)


def lanes_are_ready(rows: torch.dtype, ctrs: torch.dtype, delay: float = 0.0) -> bool:
    """Tell whether the kernel of lanes may be called for such rows and centres; if not, it begins to load."""
    return are_ready(("small", "lanes", rows, ctrs), partial(_rehearse_lanes, rows, ctrs), delay=delay)


def _rehearse_lanes(rows: torch.dtype, ctrs: torch.dtype) -> None:
    x, c = (torch.ones(2, 1, dtype=dtype, device="cpu") for dtype in (rows, ctrs))
    by_lanes(x, c, 1, "euclidean")


def _are_ready(x: Tensor, ctrs: Tensor, plan: Plan) -> bool:
    use = "small", x.dtype, ctrs.dtype, x.shape[1] > FEW_COLUMNS
    return are_ready(use, partial(_rehearse, x.dtype, ctrs.dtype, ctrs.shape, plan))


def _rehearse(rows: torch.dtype, ctrs: torch.dtype, shape: torch.Size, plan: Plan) -> None:
    _by_kernels(torch.ones(1, shape[1], dtype=rows, device="cpu"), torch.ones(shape, dtype=ctrs, device="cpu"), plan)


def _rows_of_operations(plan: Plan) -> int:
    asked = plan.problem
    a_row = PER_PAIR_OF_OPERATIONS * asked.n_ctrs + 8 * (asked.d + 1)
    return max(1, (plan.workspace_bytes // plan.crew.workers // 4 * 3 - 8 * (asked.d + 1) * asked.n_ctrs) // a_row)


def _wants_kernels(plan: Plan, n: int) -> bool:
    """Tell whether n rows had better be looked at by kernels, which take less time and memory."""
    asked = plan.problem
    pairs = n * asked.n_ctrs
    held = PER_PAIR_OF_OPERATIONS * pairs + 8 * (asked.d + 1) * (n + asked.n_ctrs)  # both as float64
    patience = _PATIENCE * (_WITH_NUMBA if "numba" in sys.modules else 1.0)
    return _spent > patience or asked.work > _WANTS_KERNELS or held > plan.workspace_bytes // 4 * 3


def by_lanes(x: Tensor, ctrs: Tensor, k: int, metric: str, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Search by the kernel that the brief way asks, too."""
    from janelia_core.ml._knn.small import lanes

    x, ctrs = alike(x, ctrs)
    n, known = len(x), terms(metric, x.shape[1], x.dtype)
    assert known is not None
    indices = torch.zeros(k, n, dtype=torch.int64, device="cpu")  # kernels write only clear rows
    clear, none = torch.empty(n, dtype=torch.bool, device="cpu"), torch.empty(0, 0, dtype=torch.float32, device="cpu")
    lanes.nearest_by_lanes(
        (known.form, k, known.root, known.by_product, False),
        known.slack,
        known.within,
        x.numpy(),
        ctrs.numpy(),
        NO_MASK if allowed is None else allowed.contiguous().numpy(),
        indices.numpy(),
        (n, 1),
        none.numpy(),
        clear.numpy(),
    )
    return indices, clear


def alike(x: Tensor, ctrs: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in C order, in the dtype of both or else in float64."""
    if x.dtype != ctrs.dtype or x.dtype not in (torch.float32, torch.float64):
        x, ctrs = as_float64(x), as_float64(ctrs)
    return x.contiguous(), ctrs.contiguous()


def _by_kernels(x: Tensor, ctrs: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    from janelia_core.ml._knn.small import canary
    from janelia_core.ml._knn.small import kernels as small_kernels

    x, ctrs = alike(x, ctrs)
    d, exact_products = x.shape[1], plan.problem.machine.exact_products
    bound = DistanceBound.of(d, exact=False)
    indices = torch.zeros(plan.k, len(x), dtype=torch.int64, device="cpu")  # kernels write only clear rows
    clear = torch.empty(len(x), dtype=torch.bool, device="cpu")
    limits = bound.relative, bound.absolute, indices.numpy(), clear.numpy()
    if d > FEW_COLUMNS and x.dtype == torch.float32 and exact_products and canary.product_is_sound():
        product = torch.mm(x, ctrs.T)
        g = gamma(d + 8, UNIT32)
        small_kernels.nearest_by_product(x.numpy(), ctrs.numpy(), product.numpy(), g, *limits)
    else:
        small_kernels.nearest_directly(x.numpy(), ctrs.numpy(), *limits)
    return indices, clear


def _by_operations(x: Tensor, ctrs: Tensor, plan: Plan, metric: Metric) -> tuple[Tensor, Tensor]:
    """Search in a few torch operations.

    Works on Euclidean distances R = sqrt(D^), off by a relative (d + 4) 2^-53 at most: a gap of four times that
    between all neighbours among the k + 1 nearest proves their order, if the nearer one is below 2^500: what
    overflows is farther than that. What underflows, ties or is NaN shows no such gap. Other metrics: a gap of twice
    the worst error of the row. CPU tensors that float64 holds.
    """
    k, few = plan.k, min(plan.k + 1, ctrs.shape[0])
    if metric.form != DISTANCE:
        value, error = metric.at_once(as_float64(x), as_float64(ctrs), plan.crew.chunk)
        nearest = value.topk(few, dim=1, largest=False)
        gaps = nearest.values.diff(dim=1) > 2.0 * error
        return nearest.indices[:, :k].T, gaps.all(dim=1) & torch.isfinite(value).all(dim=1)
    roots = torch.cdist(as_float64(x), as_float64(ctrs), compute_mode="donot_use_mm_for_euclid_dist")
    nearest = roots.topk(few, dim=1, largest=False)
    relative, smallest = 4.0 * (x.shape[1] + 4) * UNIT64, 2.0**-480
    nearer, farther = nearest.values[:, :-1], nearest.values[:, 1:]
    gaps = (farther > nearer * (1.0 + relative) + smallest) & (nearer < FAR)
    return nearest.indices[:, :k].T, gaps.all(dim=1)
