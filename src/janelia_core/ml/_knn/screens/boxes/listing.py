"""Rows among boxes: bounds, walks, and lists of candidates, all on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.screens.boxes.kernels.nearby import bound_rows
from janelia_core.ml._knn.screens.boxes.kernels.tighten import tighten
from janelia_core.ml._knn.screens.boxes.kernels.walk import walk_boxes
from janelia_core.ml._knn.screens.boxes.planted import Boxes, arranged, places_of, up_to
from janelia_core.ml._knn.screens.boxes.shapes import Shape
from janelia_core.ml._knn.screens.boxes.values import placed
from janelia_core.ml._runtime.device_kernels import launching

_WALKS = 2
_MOST_ROWS = 32  # of a tile: what rows are filled up to a multiple of


class Lists(NamedTuple):
    """Candidates of n rows.

    Attributes:
        found: (n, keep) int32, by their row numbers, in no particular order.
        n_found: (n,) int32, how many there are.
        doubt: (n,) int32, not 0 where they do not tell.
    """

    found: Tensor
    n_found: Tensor
    doubt: Tensor


class _Rows(NamedTuple):
    """Rows in the order of the curve.

    Attributes:
        x: (d, room) float32.
        order: (n,) int64, which rows these are.
        residuals: (room,) float32, what coordinates of a row and of any centre lack together.
        limits: (room,) float32, see `kernels`.
    """

    x: Tensor
    order: Tensor
    residuals: Tensor
    limits: Tensor


def list_candidates(
    boxes: Boxes, values: Tensor, shape: Shape, tiles: int, mark: Callable[[str], object] = lambda stage: None
) -> Lists:
    """List for rows (n, d) the centres that may be among the k nearest.

    Args:
        boxes: The centres.
        values: The rows as stored.
        shape: Of the kernels.
        tiles: How many tiles of rows at a time.
        mark: Is told what is done, for those who measure.
    """
    n = len(values)
    found = torch.empty(n, shape.keep, dtype=torch.int32, device=values.device)
    n_found = torch.zeros(n, dtype=torch.int32, device=values.device)
    doubt = torch.ones(n, dtype=torch.int32, device=values.device)
    lists = Lists(found, n_found, doubt)
    with launching(values):
        rows = _bounded(boxes, values, shape, mark)
        kept = torch.empty(tiles * shape.cap * shape.rows * 2, dtype=torch.int32, device=values.device)
        counts = torch.empty(tiles * shape.rows, dtype=torch.int32, device=values.device)
        # What the first walk could not keep in full has a lower bound by then.
        for walk in range(_WALKS):
            last = -(-n // shape.rows)
            for first in range(0, last, tiles):
                some = min(tiles, last - first)
                _walk(boxes, rows, shape, (kept, counts), first, some)
                mark(f"walk {walk + 1}")
                _tighten(boxes, rows, shape, (kept, counts), first, some, lists)
                mark(f"tighten {walk + 1}")
    return lists


def _bounded(boxes: Boxes, values: Tensor, shape: Shape, mark: Callable[[str], object]) -> _Rows:
    """Return rows with bounds by the centres beside them on the curve."""
    n, d, ground = len(values), values.shape[1], boxes.ground
    room = up_to(n, _MOST_ROWS)
    points = placed(values, ground.middle)
    fine = (points.z.abs() <= ground.row_reach).all(dim=1)
    z = torch.where(fine[:, None], points.z, 0.0)
    mark("values")
    places = places_of(z, ground)
    mark("curve")
    places, order = places.sort()
    mark("sort")
    x = arranged(z, order, room, 0.0)
    sound = torch.nn.functional.pad(fine[order].to(torch.int32), (0, room - n))
    residuals = _residuals(boxes, points.lacks, order, room)
    middles = torch.arange(shape.rows // 2, room, shape.rows, device=values.device).clamp_(max=n - 1)
    starts = torch.searchsorted(boxes.places, places[middles]) - shape.some // 2
    starts = starts.clamp_(max=len(boxes.places) - shape.some).clamp_(min=0)
    limits = torch.empty(room, dtype=torch.float32, device=values.device)
    mark("arrange")
    bound_rows[(-(-room // shape.bounded),)](
        x, room, sound, residuals, starts, boxes.centres, boxes.centres.shape[1], ground.most, limits,
        D=d, T=shape.rows, K=shape.k, SOME=shape.some, R=shape.bounded, ROUNDED=_is_rounded(boxes, points.lacks),
        num_warps=shape.warps, enable_fp_fusion=True,
    )  # fmt: skip
    mark("bounds")
    return _Rows(x, order, residuals, limits)


def _is_rounded(boxes: Boxes, lacks: Tensor | None) -> bool:
    return lacks is not None or boxes.lacks is not None


def _residuals(boxes: Boxes, lacks: Tensor | None, order: Tensor, room: int) -> Tensor:
    """Return (room,) float32, or nothing where float32 holds all values."""
    n, device = len(order), order.device
    if not _is_rounded(boxes, lacks):
        return torch.empty(0, dtype=torch.float32, device=device)
    both = torch.zeros(n, dtype=torch.float64, device=device) if lacks is None else lacks[order]
    if boxes.lacks is not None:
        both = both + boxes.lacks
    return torch.nn.functional.pad((both * (1.0 + 2.0**-20)).to(torch.float32), (0, room - n))


def _walk(boxes: Boxes, rows: _Rows, shape: Shape, kept: tuple[Tensor, ...], first: int, some: int) -> None:
    walk_boxes[(some,)](
        rows.x, rows.x.shape[1], rows.limits, boxes.centres, boxes.numbers, boxes.centres.shape[1],
        boxes.low, boxes.high, boxes.low.shape[1], *boxes.levels, *kept, first,
        D=len(rows.x), T=shape.rows, CAP=shape.cap, INLINE=rows.x.is_cuda and torch.version.hip is None,
        num_warps=1, enable_fp_fusion=True,
    )  # fmt: skip


def _tighten(
    boxes: Boxes, rows: _Rows, shape: Shape, kept: tuple[Tensor, ...], first: int, some: int, lists: Lists
) -> None:
    rounded = len(rows.residuals) > 0
    tighten[(-(-some * shape.rows // shape.tightened),)](
        *kept, rows.limits, rows.residuals, boxes.ground.most, rows.order, *lists, first * shape.rows,
        (first + some) * shape.rows, len(rows.order),
        K=shape.k, T=shape.rows, CAP=shape.cap, KEEP=shape.keep, R=shape.tightened, SOME=shape.at_a_time,
        ROUNDED=rounded,
        num_warps=shape.warps, enable_fp_fusion=True,
    )  # fmt: skip
