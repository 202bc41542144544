"""Launches of the kernels, from tensors: sizes, strides and options in one place.

Every launch is made on the tensors' own device, in the stream that the caller has there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import DISTANCE, DOT
from janelia_core.ml._knn.screens.rerank.found import Found, readable, warps_for
from janelia_core.ml._knn.screens.triton.bounds import gamma16
from janelia_core.ml._knn.screens.triton.cost import MOST_FIRST, Settings, power_above
from janelia_core.ml._knn.screens.triton.kernels.members import list_members
from janelia_core.ml._knn.screens.triton.kernels.packing import pack
from janelia_core.ml._knn.screens.triton.kernels.placement import measure, place_middle, place_scale, tile_extremes
from janelia_core.ml._knn.screens.triton.kernels.scan import scan
from janelia_core.ml._knn.screens.triton.kernels.selection import choose_again, choose_first
from janelia_core.ml._knn.screens.triton.tiles import Tile
from janelia_core.ml._runtime.device_kernels import launching

_AT_A_TIME = 2048  # numbers that a program packs
_PLACES = 1024  # in the lists of a row that a program reads together
_NARROW, _FEW, _MANY = 128, 16, 64  # columns up to which few centres of groups are scored together; else many
_FUSED = {"enable_fp_fusion": True}  # bounds have room for either; Triton 3.9 warns where nothing is said


class Packed(NamedTuple):
    """Packed centres.

    Attributes:
        operands: (n_packed, width) float16.
        numbers: (4, n_packed) float32: see `packing`.
        extremes: (tiles, 4) float32: the same for a tile.
        order: (n_packed,) int32 row numbers of the centres, -1: none; None: as they come.
        strange: (1,) int32, not 0 where nothing is proven of any row.
        middle: (d,) float64, taken from every point.
        factor: (1,) float64, by which the difference is multiplied.
    """

    operands: Tensor
    numbers: Tensor
    extremes: Tensor
    order: Tensor | None
    strange: Tensor
    middle: Tensor
    factor: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return sum(part.nbytes for part in self if part is not None)


class Listed(NamedTuple):
    """What rows (n) hold between launches.

    Attributes:
        operands: (n, width) float16.
        numbers: (3, n) float32: see `packing`.
        thresholds: (n,) float32, which k centres are proven to reach.
        lists: (n, parts, 8, cap, 2) int32: a group's least score, as bits, and its number.
        counts: (n, parts, 8) int32.
        doubt: (n,) int32: why a row is in doubt; 0: it is not.
    """

    operands: Tensor
    numbers: Tensor
    thresholds: Tensor
    lists: Tensor
    counts: Tensor
    doubt: Tensor


def placed(ctrs: Points, form: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return what is taken from points (d,) float64, by what the rest is multiplied (1,) float64, and (1,) int32 0."""
    values, subset, device = readable(ctrs.values), ctrs.subset, ctrs.device
    d, n = ctrs.d, len(ctrs)
    middle = torch.empty(d, dtype=torch.float64, device=device)
    factor = torch.empty(1, dtype=torch.float64, device=device)
    some, columns = subset is not None, min(64, max(16, 1 << (d - 1).bit_length()))
    given = values, middle if subset is None else subset, middle
    with launching(values):
        place_middle[(-(-d // columns),)](
            *given, n, *values.stride(), d, BD=columns, SOME=some, SHIFTED=form == DISTANCE, num_warps=8, **_FUSED
        )
        place_scale[(1,)](*given, factor, n, *values.stride(), d, BD=16, SOME=some, num_warps=8, **_FUSED)
    return middle, factor, torch.zeros(1, dtype=torch.int32, device=device)


def measured(ctrs: Points, to: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return roughly how far out each centre is (n,) float32."""
    values, subset = readable(ctrs.values), ctrs.subset
    reach = torch.empty(len(ctrs), dtype=torch.float32, device=ctrs.device)
    columns = min(128, max(16, 1 << (ctrs.d - 1).bit_length()))
    rows = _AT_A_TIME // columns
    with launching(values):
        measure[(-(-len(ctrs) // rows),)](
            values, reach if subset is None else subset, *to[:2], reach, len(ctrs), *values.stride(), ctrs.d,
            BD=columns, BM=rows, SOME=subset is not None, **_FUSED,
        )  # fmt: skip
    return reach


def packed_points(
    values: Tensor, order: Tensor | None, to: tuple[Tensor, Tensor, Tensor], tile: Tile, form: int, n: int,
    *, centres: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return values (rows, d), in an order (n,) or as they come, then nothing, as n float16 operands and numbers.

    to: Where to: (middle, factor, strange) as in `Packed`.
    """
    values, (middle, factor, strange) = readable(values), to
    d, width = values.shape[1], tile.width
    operands = torch.empty(n, width, dtype=torch.float16, device=values.device)
    numbers = torch.empty(4 if centres else 3, n, dtype=torch.float32, device=values.device)
    columns = min(width, 128 if width % 128 == 0 else 64)
    rows = max(1, _AT_A_TIME // columns)
    with launching(values):
        pack[(-(-n // rows),)](
            values, numbers if order is None else order, middle, factor, operands, numbers, strange,
            n, len(values), *values.stride(), gamma16(width), d,
            W=width, BK=columns, BM=rows, ORDERED=order is not None,
            NORMAL=form != DISTANCE and not (centres and form == DOT), CENTRES=centres, BIASED=form == DISTANCE,
            WIDE=values.dtype == torch.int64, enable_fp_fusion=False,
        )  # fmt: skip
    return operands, numbers


def extremes_of(numbers: Tensor, tile: Tile, biased: bool) -> Tensor:
    """Return what holds of all centres of a tile (tiles, 4), of numbers (4, n)."""
    n = numbers.shape[1]
    extremes = torch.empty(n // tile.ctrs, 4, dtype=torch.float32, device=numbers.device)
    with launching(numbers):
        tile_extremes[(len(extremes),)](numbers, extremes, n, BN=tile.ctrs, BIASED=biased, num_warps=1, **_FUSED)
    return extremes


def scanned(
    x: Listed, c: Packed, settings: Settings, first: int, last: int, shown: Tensor | None, out: Tensor, store: bool
) -> None:
    """Multiply all rows with some tiles of centres; see `scan`."""
    tile, n = settings.tile, len(x.operands)
    operands: tuple[Any, Any] = x.operands, c.operands
    if settings.fetched:
        from triton.tools.tensor_descriptor import TensorDescriptor

        operands = (
            TensorDescriptor.from_tensor(x.operands, [tile.rows, tile.columns]),
            TensorDescriptor.from_tensor(c.operands, [tile.ctrs, tile.columns]),
        )
    with launching(x.operands):
        scan[(-(-n // tile.rows), settings.parts)](
            *operands, x.numbers, c.extremes, c.numbers[2], c.strange if shown is None else shown, x.thresholds, out,
            x.counts, n, first, last, out.shape[1], 0 if shown is None else shown.shape[1],
            W=tile.width, BK=tile.columns, BM=tile.rows, BN=tile.ctrs, NG=settings.groups, CAP=settings.cap,
            STORE=store,
            BIASED=settings.biased, MASKED=shown is not None, FETCHED=settings.fetched, INLINE=settings.inline,
            STAGES=tile.stages, num_warps=tile.warps, num_stages=tile.stages, **_FUSED,
        )  # fmt: skip


def chosen_first(x: Listed, c: Packed, settings: Settings, stored: Tensor, masked: bool, known: bool) -> None:
    """Find thresholds, if they are not known, and what reaches them of all that is stored (n, groups)."""
    width = stored.shape[1]
    if not known and width > MOST_FIRST:
        x.thresholds.copy_(stored.topk(settings.kth, dim=1).values[:, -1])
        known = True
    power = max(8, 1 << (width - 1).bit_length())
    with launching(stored):
        choose_first[(len(stored),)](
            stored, x.numbers, c.extremes, c.strange, x.thresholds, x.lists, x.counts, x.doubt,
            len(stored), width, x.lists.shape[1], settings.kth,
            P2=8 if known else power, NG=settings.groups, STEP=min(1024, power), CAP=settings.cap, MASKED=masked,
            KNOWN=known,
            num_warps=4 if known else warps_for(power, 512), **_FUSED,
        )  # fmt: skip


def chosen_again(x: Listed, c: Packed, settings: Settings) -> None:
    """Raise thresholds, and shorten lists."""
    lists = power_above(8 * x.lists.shape[1])
    with launching(x.lists):
        choose_again[(len(x.operands),)](
            x.numbers, c.extremes, x.thresholds, x.lists, x.counts, x.doubt, len(x.operands), settings.kth,
            8 * x.lists.shape[1], LISTS=lists, CAP=settings.cap, num_warps=warps_for(lists * settings.cap, 256),
            **_FUSED,
        )  # fmt: skip


def members(x: Listed, c: Packed, settings: Settings, shown: Tensor | None, n_ctrs: int) -> Found:
    """List the centres that may be among the nearest."""
    n, keep, tile, device = len(x.operands), settings.keep, settings.tile, x.operands.device
    found = torch.empty(n, keep, dtype=torch.int32, device=device)
    groups, counts = torch.empty_like(found), torch.empty(n, dtype=torch.int32, device=device)
    size = tile.ctrs // settings.groups
    together = max(1, min(power_above(8 * x.lists.shape[1]), _PLACES // settings.cap))
    at_once = _FEW if tile.width <= _NARROW else _MANY
    with launching(found):
        list_members[(n,)](
            x.operands, c.operands, x.numbers, c.numbers, *_given(c.strange, c.order, shown), x.thresholds,
            x.lists, x.counts, groups, found, counts, x.doubt,
            n, len(c.operands), n_ctrs, 8 * x.lists.shape[1],
            W=tile.width, BK=min(tile.width, 64), G=size, NG=settings.groups,
            GROUPS=max(1, at_once // size), TOGETHER=together, CAP=settings.cap,
            KEEP=keep, MASKED=shown is not None, ORDERED=c.order is not None,
            num_warps=1 if tile.width <= _NARROW and together * settings.cap < _PLACES else 2, **_FUSED,
        )  # fmt: skip
    return Found(found, counts, x.doubt)


def _given(instead: Tensor, *tensors: Tensor | None) -> list[Tensor]:
    """Return tensors, of which a kernel does not read those that are not there."""
    return [instead if tensor is None else tensor for tensor in tensors]
