"""The one door to the search: from checked tensors to indices, by a plan made for this machine."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.mask import Allowed
from janelia_core.ml._knn.data.points import Points, as_stored, without_subnormals
from janelia_core.ml._knn.kept import Kept
from janelia_core.ml._knn.meanwhile import asker, now
from janelia_core.ml._knn.metrics.mapped import both_points, searched_by
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import DEFAULT_MEMORY, Paid
from janelia_core.ml._knn.report import Report
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.kernels import optional_kernels
from janelia_core.ml._runtime.loading import begin
from janelia_core.ml._runtime.machine import check_not_captured, flushes_subnormals, this_machine


@optional_kernels
def find(
    x: Tensor,
    ctrs: Tensor,
    k: int,
    *,
    m: int | None = None,
    max_memory: int = DEFAULT_MEMORY,
    subset: Tensor | None = None,
    metric: str = "euclidean",
    allowed: Allowed | None = None,
    out: Tensor | None = None,
    but_self: bool = False,
    kept: Kept | None = None,
) -> Tensor:
    """Return the k nearest centres (k, n_smps) int64 of each row of x, as row numbers of ctrs.

    Args:
        x: (n_smps, d), as `face.checked_points` wants it.
        ctrs: (n_ctrs, d), likewise.
        k: 1 <= k <= number of centres searched.
        m: At most so many centres' scores at a time; None: as many as the memory allows.
        max_memory: Bytes of workspace beyond inputs and result.
        subset: Ascending int64 row numbers of the centres to search; None: all.
        metric: "euclidean" or "sqeuclidean" (the same order), "cosine", "dot" and so on; see `metrics`.
        allowed: Called as allowed(rows, start, stop) with row numbers of x and a range of row numbers of ctrs, returns
            (len(rows), stop - start) bool, True where the row may be answered with the centre; None: all may. Rows
            with fewer than k allowed centres get -1 in the rest of their column. May be called from several threads,
            in any order, and more than once for a pair.
        out: (k, n_smps) int64 of any strides, written and returned; None: a new one.
        but_self: x is ctrs, and rows do not meet themselves: k counts one more than `out` is to hold (`Answers`).
        kept: What is kept of ctrs, or of some of them: then these are searched. Without subset, and of points where
            the metric maps any (`metrics.mapped`).
    """
    check_not_captured(x)
    (x, ctrs), metric = both_points(metric, x, ctrs), searched_by(metric)
    if kept is not None:
        subset = kept.centres.points.subset
    n_ctrs = ctrs.shape[0] if subset is None else subset.shape[0]
    paid, keeps = ((), 0) if kept is None else kept.terms(metric)
    plan = planned(  # Step 2: a plan is made from sizes
        x,
        ctrs,
        (x.shape[0], n_ctrs),
        k,
        m=m,
        max_memory=max_memory,
        metric=metric,
        in_place=subset is None,
        masked=allowed is not None,
        paid=paid,
        keeps=keeps,
    )
    is_ready = asker(x, ctrs)
    plan = now(plan, is_ready, keeps=kept is not None)
    same = x is ctrs
    x = as_stored(x)
    ctrs = x if same else as_stored(ctrs)
    if flushes_subnormals():
        stored, (x, ctrs) = ctrs, without_subnormals(x, ctrs)
        kept = kept if ctrs is stored else None
    answers, chunk, report = None if out is None else Answers(out, but_self), plan.crew.chunk, Report(plan)
    centres = Centres(Points(ctrs, subset, chunk)) if kept is None else kept.centres.by(chunk)
    rows = Points(x, chunk=chunk)
    try:
        found = search(rows, centres, plan, allowed, answers, report, is_ready)
    except BaseException:
        if kept is not None:
            kept.failed(plan)
        raise
    begin()  # whatever was not loaded, so that it did not disturb this search
    if kept is not None:
        kept.note(plan, report)
    return found


def planned(
    x: Tensor,
    ctrs: Tensor,
    sizes: tuple[int, int],
    k: int,
    *,
    m: int | None = None,
    max_memory: int = DEFAULT_MEMORY,
    metric: str = "euclidean",
    in_place: bool = True,
    masked: bool = False,
    paid: Paid = (),
    keeps: int = 0,
) -> Plan:
    """Return the plan of a search of so many rows like those of x among so many centres like those of ctrs.

    Args:
        x: (.., d) points, of the dtype and on the device of the rows; how many there are does not matter.
        ctrs: (.., d) points, likewise.
        sizes: (n_smps, n_ctrs).
        k: As for `find`.
        m: Likewise.
        max_memory: Likewise.
        metric: Likewise, but one that maps no points.
        in_place: All centres are searched, so that none need be copied.
        masked: See `Problem`.
        paid: Likewise.
        keeps: Likewise.
    """
    n_smps, n_ctrs = sizes
    return make_plan(
        n_smps,
        n_ctrs,
        x.shape[1],
        k,
        n_ctrs if m is None else m,
        machine=this_machine(x.device),
        float32=x.dtype == ctrs.dtype == torch.float32 and in_place,
        budget=max_memory,
        metric=metric,
        masked=masked,
        paid=paid,
        keeps=keeps,
    )
