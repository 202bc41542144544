"""Where the dense screen takes its points: shifted, scaled, rounded to a format, and what that loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.ml._knn.data.directions import direction_error, directions
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.screens.dense.formats import INT8, Format
from janelia_core.ml._knn.screens.dense.rounding import Places, Rounding, Sums, round_points
from janelia_core.ml._knn.screens.dense.row_bounds import measure
from janelia_core.ml._runtime.workers import Workers

Columns = tuple[Tensor, Tensor]
Words = npt.NDArray[np.uint32]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
_SHARE = 2  # of a chunk, for coordinates looked at at a time
_MOST_INTEGER = 2**22  # on a grid: sums of products are then often exact in float32
_MOST_SQUARE = 2.0**24  # of the farthest corner; centres lie well within
_BYTES = 255  # steps of a grid that int8 holds
_MEANT = 1024  # centres of which a mean is near that of all
_ASKED, _FIRST = 64, 64  # centres that tell their step, and coordinates of the first of them
_SIFTED = 1 << 16  # coordinates of a sample at a time; each takes about 64 bytes while its step is found


def in_place(points: Points) -> Float64s | Float32s | None:
    """Return the values of points where kernels can read them as they are stored."""
    values = points.values
    readable = values.dtype in (torch.float32, torch.float64) and values.is_contiguous() and points.subset is None
    return values.numpy() if readable else None


class Measured(NamedTuple):
    """What (1) needs to know of each of r points, as (r,) float64, and `whole` as bool.

    Fields:
        residual: At least the norm of point - value.
        norm: At least the norms of point and of value.
        square: |point|^2 as computed.
        square_error: At least its error.
        whole: The value is the point itself, and made of integers.
    """

    residual: Tensor
    norm: Tensor
    square: Tensor
    square_error: Tensor
    whole: Tensor


@dataclass(frozen=True)
class DenseFrame:
    """Where points are taken: (u - shift) * scale, before they are rounded to a format.

    Fields:
        shift: (d,) float64.
        scale: A power of two.
        whole: The centres are integers in this frame, and so is the shift.
        relative_error: Bound of the relative error each coordinate of u comes with.
        directed: Points are divided by their norms before all else.
        may_be_exact: Sums of products of the centres, which are whole, may be exact in float32.
    """

    shift: Tensor
    scale: float
    whole: bool
    relative_error: float
    directed: bool = False
    may_be_exact: bool = False

    def round(self, u: Tensor, chosen: Format, lanes: int, words: Words, steps: Float32s, sums: Sums) -> None:
        """Rounds points (r, d) into words, steps and sums (r,), all as `round_points` says."""
        places = Places(first=0, panels=1, across=0, panel=-(-len(u) // lanes) * lanes, along=1)
        round_points(self.ready(u), places, self.rounding(chosen, lanes), words, steps, sums)

    def ready(self, u: Tensor, spare: Tensor | None = None) -> Float64s | Float32s:
        """Makes points what `round_points` reads; in spare, (r, d) float64 or longer, where they have to be made so.

        Who does that again and again gives the same: new arrays of some MiB each time leave gaps in the heap.
        """
        if self.directed:
            u = directions(u)
        if u.dtype in (torch.float32, torch.float64):
            return u.contiguous().numpy()
        return (u.double() if spare is None else spare[: len(u)].copy_(u)).numpy()

    def rounding(self, chosen: Format, lanes: int) -> Rounding:
        """How points are rounded to a format."""
        shift = self.shift.numpy() * self.scale
        return Rounding(
            shift=shift,
            length=float(np.sqrt(np.square(shift).sum())) * (1.0 + 2.0**-20),
            scale=self.scale,
            grid=self.whole,
            bits=32 // chosen.per_word,
            lanes=lanes,
            flip=0x80808080 if chosen is INT8 and lanes > 1 else 0,
        )

    def measure(self, d: int, sums: Sums) -> Measured:
        """Turns the sums of points of d coordinates into bounds."""
        residual, norm, square, square_error, whole = torch.from_numpy(self.measured(d, sums))
        return Measured(residual, norm, square, square_error, whole != 0)

    def measured(self, d: int, sums: Sums) -> Float64s:
        """Return the same as the rows of an array."""
        measured = np.empty((len(Measured._fields), len(sums)))
        measure(sums, d, self.relative_error, measured)
        return measured


def frame_of_directions(d: int) -> DenseFrame:
    """The frame of points divided by their norms."""
    shift = torch.zeros(d, dtype=torch.float64, device="cpu")
    return DenseFrame(shift, 2.0**20, False, direction_error(d), directed=True)


class First(NamedTuple):
    """What a sample of centres told.

    Attributes:
        middle: (d,) float64, a mean.
        step: The finest power of two that divides all values of the sample, with small quotients; 0.0: there is none.
    """

    middle: Tensor
    step: float


class Known(NamedTuple):
    """What is known of centres, if anything.

    Attributes:
        columns: Each coordinate's least and greatest value.
        largest: The greatest magnitude.
        first: What a sample told.
    """

    columns: Columns | None = None
    largest: float | None = None
    first: First | None = None


def find_frame(
    ctrs: Points,
    chosen: Format,
    relative_error: float,
    workers: Workers,
    product: bool = False,
    known: Known | None = None,
) -> DenseFrame:
    """Centres the frame on the centres' mean; on their grid if they have one that the format may hold exactly.

    Inner products want the origin where it is. For int8, a grid of at most 256 steps is centred on its middle.
    """
    reader, (columns, most, first) = Reader(workers, kernels=True, share=_SHARE), known or Known()
    if most is None:
        columns = columns or reader.column_ends(ctrs)
        most = float(torch.maximum(columns[1], -columns[0]).max())
    largest = most  # for the function below, which would forget that it is one
    shift, step = first or workers.once(lambda: first_look(ctrs, largest))
    if relative_error == 0 and step and _are_on_grid(ctrs, step, reader):
        low, high = columns or reader.column_ends(ctrs)
        if chosen is INT8 and float((high - low).max()) <= _BYTES * step:
            shift = ((low + high) / (2.0 * step)).ceil() * step
        shift = torch.zeros_like(shift) if product else (shift / step).round() * step
        corner = (torch.maximum(high - shift, shift - low) / step).square().sum()
        return DenseFrame(shift, 1.0 / step, True, 0.0, may_be_exact=bool(corner < _MOST_SQUARE))
    shift = torch.zeros_like(shift) if product else shift
    exponent = int(np.frexp(largest * ctrs.d**0.5)[1]) if largest else 0
    return DenseFrame(shift, 2.0 ** min(20 - exponent, 1000), False, relative_error)


def first_look(ctrs: Points, largest: float) -> First:
    """Look at a sample: any shift is right; its mean makes norms, and so errors, as small as that of all would."""
    sample = max(1, min(_MEANT, ctrs.chunk // _SHARE // ctrs.d))
    middle = ctrs.block(0, len(ctrs), -(-len(ctrs) // sample)).mean(0, dtype=torch.float64)
    return First(middle, _step_of_sample(ctrs, largest))


def find_grid(ctrs: Points, largest: float, reader: Reader) -> float:
    """A power of two that divides every coordinate with quotients below 2^22, or 0.0 if there is none."""
    step = _step_of_sample(ctrs, largest)
    return step if step and _are_on_grid(ctrs, step, reader) else 0.0


def _are_on_grid(ctrs: Points, step: float, reader: Reader) -> bool:
    return not ctrs.values.is_floating_point() or reader.all_multiples(ctrs, step)


def _step_of_sample(ctrs: Points, largest: float) -> float:
    """`First.step`; few values tell of most data that there is none."""
    if not ctrs.values.is_floating_point():
        return 1.0 if largest < _MOST_INTEGER else 0.0
    sample = ctrs.block(0, len(ctrs), -(-len(ctrs) // _ASKED))
    few, finest = max(1, _FIRST // ctrs.d), None
    for some in (sample[:few], *torch.split(sample[few:], max(1, _SIFTED // ctrs.d))):
        exponent = _step_exponent(some.double().numpy().ravel())
        if exponent is None:
            continue
        finest = exponent if finest is None else min(exponent, finest)
        if not -1000 < finest < 1000 or largest / 2.0**finest >= _MOST_INTEGER:
            return 0.0
    # A sample of zeros lies on any grid, and tells nothing of the others.
    return 2.0**finest if finest is not None else float(largest < _MOST_INTEGER)


def _step_exponent(values: Float64s) -> int | None:
    """The exponent of the largest power of two that divides all values, None where they are zeros."""
    values = values[values != 0]
    if values.size == 0:
        return None
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    return int((exponent - 53 + np.frexp((whole & -whole).astype(np.float64))[1] - 1).min())
