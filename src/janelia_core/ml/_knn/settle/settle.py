"""Exact order where float64 cannot tell: identical centres, then double-double, then integers.

Takes what verify sorted by (order value, index). Neighbours in that order whose error intervals overlap form clusters;
only clusters that start among the first k matter, and only they are looked at again. Each stage settles what it
can prove and hands on the rest; the last one always ends. All of it runs on the CPU.

Double-double keys are differences of order values where kernels may be used and know the metric (`settle.kernels`),
which tell apart whatever its magnitude; else what the metric gives as such (`Metric.key_sums`), of values that need no
scaling.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD
from janelia_core.ml._knn.contract import Counts, Ordered, Stored
from janelia_core.ml._knn.data.points import Points, as_float64, halves, is_finite, is_wide, picked_rows
from janelia_core.ml._knn.metrics.metric import DISTANCE, DOT, Metric
from janelia_core.ml._runtime.loading import are_ready

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Keys = Callable[[Tensor, Stored, "_Members", Metric], tuple[Floats, Floats, Floats]]

_SHARE = 8  # of a chunk, for coordinates of pairs held at once: double-double has many temporaries
_KERNELS = "janelia_core.ml._knn.settle.kernels"
_WANTS_KERNELS = 1 << 11  # coordinates of members: for fewer, loading the kernels takes longer than going without


@dataclass
class _Members:
    """Members of open clusters, cluster by cluster in sorted order: flat place in the table, row, centre, cluster."""

    place: Ints
    row: Ints
    ctr: Ints
    cluster: Ints

    def pick(self, keep: Bools) -> _Members:
        return _Members(self.place[keep], self.row[keep], self.ctr[keep], self.cluster[keep])

    def sorted(self, *keys: Floats) -> Ints:
        """Return the permutation that orders each cluster by the keys, then by centre index."""
        return np.lexsort((self.ctr, *reversed(keys), self.cluster))


def settle(
    x_rows: Tensor, ctrs: Stored, found: Ordered, k: int, metric: Metric, in_float64: bool, kernels: bool = False
) -> tuple[Tensor, Counts]:
    """Put the first k of each row into the exact order by (order value, index).

    Args:
        x_rows: (r, d) stored values.
        ctrs: the centres.
        found: what verify ordered, (r, w).
        k: how many places matter.
        metric: what orders.
        in_float64: stored values are exact in float64 and of moderate magnitude.
        kernels: Numba kernels may be used.

    Returns:
        (r, w) int64 indices, of which the first k are final, and how the clusters were settled.
    """
    counts = Counts()
    indices = found.indices
    open_ = open_between(found, metric)
    flagged = open_[:, :k].any(dim=1).nonzero()[:, 0]
    if flagged.numel() == 0:
        return indices, counts
    table = indices[flagged].cpu().numpy()
    x_flagged = picked_rows(x_rows, flagged.to(x_rows.device))
    members = _clusters(table, open_[flagged].cpu().numpy(), k)
    members = _settle_identical(table, ctrs, members, counts)
    keys = _chosen_keys(members, ctrs.d, metric, in_float64, kernels)
    if keys is not None:
        members = _settle_double_double(table, members, k, counts, keys(x_flagged, ctrs, members, metric))
    _settle_integers(table, x_flagged, ctrs, members, counts, metric)
    out = indices.clone()
    out[flagged] = torch.from_numpy(table).to(indices.device)
    return out, counts


def contested(found: Ordered, k: int, metric: Metric) -> tuple[Tensor, Tensor]:
    """Return whose stored values `settle` may ask for: (row, number of centre) of each, rows ascending."""
    open_ = open_between(found, metric)
    flagged = open_[:, :k].any(dim=1).nonzero()[:, 0]
    if flagged.numel() == 0:
        return flagged, flagged
    members = _clusters(found.indices[flagged].cpu().numpy(), open_[flagged].cpu().numpy(), k)
    row, ctr = (torch.from_numpy(part).to(flagged.device) for part in (members.row, members.ctr))
    return flagged[row], ctr


def open_between(found: Ordered, metric: Metric) -> Tensor:
    """Tell (r, w - 1) bool between which sorted neighbours the order is open.

    Infinite and NaN values are classes, in order by index already; where values are exact a tie is a tie.
    """
    value, error = found.value, found.error
    if metric.exact:
        return torch.zeros_like(value[:, 1:], dtype=torch.bool)
    high, low, finite = value + error, value - error, is_finite(value)
    if not metric.uniform:  # what lies further up may reach down past its neighbour
        high = high.masked_fill(~finite, -torch.inf).cummax(dim=1).values
        low = low.masked_fill(~finite, torch.inf).flip(1).cummin(dim=1).values.flip(1)
    return (high[:, :-1] >= low[:, 1:]) & finite[:, 1:] & finite[:, :-1]


def _clusters(table: Ints, open_: Bools, k: int) -> _Members:
    """Collect the members of all clusters of neighbours whose order is open that start among the first k."""
    rows, width = table.shape
    place, starts = np.arange(rows * width), np.ones((rows, width), dtype=np.bool_)
    starts[:, 1:] = ~open_
    return _grouped(_Members(place, place // width, table.ravel(), place), starts.ravel(), width, k)


def _settle_identical(table: Ints, ctrs: Stored, members: _Members, counts: Counts) -> _Members:
    """Order clusters of identical centres by index; return the members of the others."""
    first = np.flatnonzero(np.diff(members.cluster, prepend=-1))  # of each cluster
    ordinal = np.repeat(np.arange(len(first)), np.diff(first, append=len(members.ctr)))
    same = np.ones(len(members.ctr), dtype=np.bool_)
    step = max(1, ctrs.chunk // _SHARE // max(1, ctrs.d))
    for start in range(0, len(same), step):
        part = slice(start, start + step)
        one, other = _rows(ctrs, members.ctr[part]), _rows(ctrs, members.ctr[first[ordinal[part]]])
        same[part] = (one == other).all(dim=1).cpu().numpy()
    alike = np.logical_and.reduceat(same, first)
    settled = members.pick(alike[ordinal])
    table.ravel()[settled.place] = settled.ctr[settled.sorted()]
    counts.identical += int(alike.sum())
    return members.pick(~alike[ordinal])


def _chosen_keys(members: _Members, d: int, metric: Metric, in_float64: bool, kernels: bool) -> Keys | None:
    """Return what gives the members their double-double keys, if anything does."""
    size = len(members.ctr) * max(1, d)
    if size == 0:
        return None
    wanted = kernels and metric.form in (DISTANCE, DOT) and (size > _WANTS_KERNELS or _KERNELS in sys.modules)
    if wanted and are_ready("settle", partial(_rehearse, metric)):
        return _difference_keys
    return _value_keys if in_float64 and metric.doubled_below > 0 else None


def _rehearse(metric: Metric) -> None:
    points, two = Points(torch.ones(2, 2, device="cpu")), np.arange(2)
    _difference_keys(points.values, points, _Members(two, two * 0, two, two * 0), metric)


@np.errstate(over="ignore")  # a gap that overflows is one
def _settle_double_double(
    table: Ints, members: _Members, k: int, counts: Counts, keys: tuple[Floats, Floats, Floats]
) -> _Members:
    """Order clusters by double-double keys hi + lo +- error; return the members of what is still open."""
    hi, lo, error = keys
    # One error for a whole cluster keeps "overlaps the next one" transitive.
    worst = np.zeros(int(members.cluster.max()) + 1)
    np.maximum.at(worst, members.cluster, error)
    order = members.sorted(hi, lo)
    hi, lo = hi[order], lo[order]
    gap = np.diff(hi) + np.diff(lo)
    margin = 2.0 * worst[members.cluster[1:]]
    near = (margin > 0) & (gap <= margin * OUTWARD + 2.0**-100 * (np.abs(hi[1:]) + np.abs(hi[:-1])))
    together = near & (members.cluster[1:] == members.cluster[:-1])
    members = replace(members, ctr=members.ctr[order])
    table.ravel()[members.place] = members.ctr
    rest = _grouped(members, np.concatenate([[True], ~together]), table.shape[1], k)
    counts.double_double += len(np.unique(members.cluster)) - len(np.unique(rest.cluster))
    return rest


def _value_keys(x: Tensor, ctrs: Stored, members: _Members, metric: Metric) -> tuple[Floats, Floats, Floats]:
    """Return order values."""
    n = len(members.ctr)
    hi, lo, error = np.empty(n), np.empty(n), np.empty(n)
    step = max(1, ctrs.chunk // _SHARE // max(1, ctrs.d))
    for start in range(0, n, step):
        part = slice(start, start + step)
        x64 = as_float64(x[torch.from_numpy(members.row[part]).to(x.device)]).cpu().numpy()
        c64 = as_float64(_rows(ctrs, members.ctr[part])).cpu().numpy()
        hi[part], lo[part], error[part] = metric.key_sums(x64, c64)
    return hi, lo, error


def _difference_keys(x: Tensor, ctrs: Stored, members: _Members, metric: Metric) -> tuple[Floats, Floats, Floats]:
    """Return differences of order values, by kernels, as many clusters at a time as a chunk holds."""
    from janelia_core.ml._knn.settle.kernels import difference_keys

    n = len(members.ctr)
    hi, lo, error = np.empty(n), np.empty(n), np.empty(n)
    edges = np.flatnonzero(np.diff(members.cluster, prepend=-1, append=-2))
    step = max(1, ctrs.chunk // _SHARE // max(1, ctrs.d))
    first = 0
    while first < len(edges) - 1:
        last = max(first + 1, int(np.searchsorted(edges, edges[first] + step, side="right")) - 1)
        part = slice(edges[first], edges[last])
        rows = x[torch.from_numpy(members.row[edges[first:last]]).to(x.device)].cpu()
        centres = _rows(ctrs, members.ctr[part]).cpu()
        given = (*_parts(rows), *_parts(centres.T), edges[first : last + 1] - edges[first])
        difference_keys(metric.form == DOT, *given, hi[part], lo[part], error[part])
        first = last
    return hi, lo, error


def _parts(values: Tensor) -> tuple[Floats, Floats]:
    """Return values as sums of two float64 numbers, in C order."""
    if is_wide(values):
        high, low = halves(values)
    else:
        high, low = as_float64(values), torch.zeros(values.shape, dtype=torch.float64, device="cpu")
    return high.contiguous().numpy(), low.contiguous().numpy()


def _grouped(members: _Members, starts: Bools, width: int, k: int) -> _Members:
    """Return the members of the clusters of two or more, each from where one starts, that start among the first k."""
    cluster = np.cumsum(starts) - 1
    wanted = (np.bincount(cluster) > 1) & (members.place[starts] % width < k)
    return replace(members, cluster=cluster).pick(wanted[cluster])


def _settle_integers(table: Ints, x: Tensor, ctrs: Stored, members: _Members, counts: Counts, metric: Metric) -> None:
    """Order what is left by exact integers, or fractions of them."""
    edges = np.flatnonzero(np.diff(members.cluster, prepend=-1, append=-2))
    for start, stop in itertools.pairwise(edges):
        ctr = members.ctr[start:stop]
        keys = metric.keys(x[int(members.row[start])].tolist(), _rows(ctrs, ctr).tolist())
        order = sorted(range(len(ctr)), key=lambda i, keys=keys, ctr=ctr: (keys[i], ctr[i]))  # type: ignore[misc]
        table.ravel()[members.place[start:stop]] = ctr[order]
        counts.integers += 1


def _rows(ctrs: Stored, positions: Ints) -> Tensor:
    return ctrs.take(torch.from_numpy(positions).to(ctrs.device))
