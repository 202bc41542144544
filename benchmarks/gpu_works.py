"""What the kernels of the Triton screen multiply, move and count in a search, and what a chip needs for it at least."""

from __future__ import annotations

import math
from typing import NamedTuple

from gpu_cases import Shape
from gpu_chips import REACHED, SHORTEST, VERIFIED_AS, Chip

from janelia_core.ml._knn.screens.rerank.cost import SORTED_ABOVE
from janelia_core.ml._knn.screens.triton.cost import MOST_FIRST, Settings

PACKED, VERIFIED = 17, 45
"""Float64 operations for a coordinate that is packed, and for one that is verified. Counted in the sources."""
BITS = 24
"""Steps of a bisection for the k-th best, of two operations a number each."""
KEPT = 1.15
"""Groups and centres left for each neighbour asked for. Measured: 1.1 to 1.2."""


class Work(NamedTuple):
    """What a kernel does in a search, all launches together.

    Attributes:
        kernel: Its name.
        launches: How many; 0 of torch's kernels, which are counted elsewhere.
        moved: Bytes read and written, in the memory.
        product: FLOP of float16 products.
        float64: Operations.
        counted: Maxima, comparisons and integer operations.
        busy: Share of the processors that have work, for want of rows or of whole turns.
    """

    kernel: str
    launches: int
    moved: float
    product: float = 0.0
    float64: float = 0.0
    counted: float = 0.0
    busy: float = 1.0

    def limits(self, chip: Chip) -> dict[str, float]:
        """Return the seconds of each limit."""
        return {
            "memory": self.moved / chip.memory,
            "products": self.product / chip.float16 / self.busy,
            "float64": self.float64 / (chip.float64 / 2.0),
            "operations": self.counted / chip.operations / self.busy,
            "launches": self.launches * SHORTEST,
        }

    def binds(self, chip: Chip) -> str:
        """Return the limit that takes longest."""
        limits = self.limits(chip)
        return max(limits, key=lambda name: limits[name])

    def expected(self, chip: Chip) -> float:
        """Return the seconds that it should take."""
        return max(time / REACHED.get((self.kernel, name), 1.0) for name, time in self.limits(chip).items())


def works_of(shape: Shape, chip: Chip, own: Settings) -> tuple[Work, ...]:
    """Return what the kernels of a search do."""
    return *_prepared(shape, own), *_scanned(shape, chip, own), *_ordered(shape, own)


def _prepared(shape: Shape, own: Settings) -> list[Work]:
    n, n_ctrs, d, size, width = shape.n, shape.n_ctrs, shape.d, shape.nbytes, own.tile.width
    packed = n_ctrs * (d * size + 2 * width + 16) + n * (d * size + 2 * width + 12)
    works = [
        Work("place", 2, 256.0 * d * size),
        Work("pack", 1 + _turns(shape, own), packed, float64=(n_ctrs + n) * d * PACKED),
        Work("tile_extremes", 1, 16 * n_ctrs),
    ]
    if not own.biased:  # in the order of their norms: four passes over keys and places of a radix sort
        works += [Work("measure", 1, n_ctrs * (d * size + 4)), Work("sort", 0, n_ctrs * 4 * 2 * 12)]
    return works


def _scanned(shape: Shape, chip: Chip, own: Settings) -> list[Work]:
    tile, turns, n, k = own.tile, _turns(shape, own), shape.n, shape.k
    parts = own.parts
    blocks, room = turns * -(-min(n, own.rows) // tile.rows), chip.gpu.processors * tile.together
    waves = -(-blocks * parts // room)
    centres = 2 * tile.width * tile.ctrs * own.edges[-1]
    again = 1 if centres <= chip.cache else waves  # programs that run together share what they fetch
    groups = own.groups * own.edges[0]
    pairs = blocks * tile.rows * own.edges[-1] * tile.ctrs
    listed = 8 * n * sum(k * later / one for one, later in zip(own.edges, own.edges[1:], strict=False))
    lists = 8 * parts * own.cap
    works = [
        Work(
            "scan",
            turns * len(own.edges),
            again * centres + 2 * n * tile.width + 4 * n * groups + listed,
            product=2 * pairs * tile.width,
            counted=pairs,
            busy=blocks * parts / (waves * room),
        ),
    ]
    if groups <= MOST_FIRST:
        power = 1 << (groups - 1).bit_length()
        works.append(Work("choose_first", turns, 4 * n * groups, counted=n * power * 2 * BITS))
    else:  # torch finds the threshold, reading what is stored some four times
        works += [Work("choose_known", turns, 4 * n * groups), Work("topk", 0, 4 * n * groups * 4)]
    if len(own.edges) > 1:
        others = turns * (len(own.edges) - 1)
        works.append(Work("choose_again", others, 2 * listed, counted=others / turns * n * lists * 2 * BITS))
    return works


def _ordered(shape: Shape, own: Settings) -> list[Work]:
    n, d, found, turns = shape.n, shape.d, KEPT * shape.k, _turns(shape, own)
    group, verified = own.tile.ctrs // 8, n * found * d
    works = [
        Work("list_members", turns, n * found * group * 2 * own.tile.width),
        Work("verify", turns, verified * shape.nbytes, float64=verified * VERIFIED, counted=verified * VERIFIED_AS),
        Work("look_at_ties", turns, 4 * n),
    ]
    if own.keep <= SORTED_ABOVE:
        return [*works, Work("rank", turns, 56 * n * own.keep, float64=6 * n * own.keep**2)]
    return [*works, Work("sort lists", 0, n * own.keep * 3 * 8 * 24)]


def _turns(shape: Shape, own: Settings) -> int:
    return math.ceil(shape.n / own.rows)
