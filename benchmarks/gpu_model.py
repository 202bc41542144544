"""What a search by the Triton screen should take on a GPU, from its plan and the chip's figures. Needs no GPU.

    python benchmarks/gpu_model.py [--chips TEXT ...] [--cases TEXT ...] [--kernels]

For each kernel: what it multiplies, moves and counts, by the plan of the search (`Settings`). Each of these, divided by
the chip's rate, is a limit; the largest binds. What is expected is that limit, or what is more: a limit divided by the
share of it that the kernel reached on an H100 (`gpu_chips.REACHED`, measured; on other chips assumed); and the host's
time for launches. What was measured of the whole stands beside it: `results/gpu.json`, or the first run on an H100.
Rates are makers' figures, counts of operations were read from the kernels' sources: two digits at best.
Rows in doubt, which take the ladder, are not in it: Gaussian points have none.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import NamedTuple

from gpu_cases import GIB, SHAPES, Shape
from gpu_chips import (
    BY_TORCH,
    BY_TORCH_SORTED,
    CHIPS,
    FIRST_RUN,
    PER_LAUNCH,
    REACHED,
    SHORTEST,
    VERIFIED_AS,
    Chip,
)

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.triton.cost import MOST_FIRST, SORTED_ABOVE, Settings
from janelia_core.ml._runtime.machine import Machine

MEMORY = 16 * GIB
"""What knn_mc takes by itself where 64 GiB are free."""
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


class Search(NamedTuple):
    """What a search should take.

    Attributes:
        shape: What is asked.
        chip: Where.
        plan: Its plan.
        works: What its kernels do; none: another screen answers.
    """

    shape: Shape
    chip: Chip
    plan: Plan
    works: tuple[Work, ...]

    @property
    def launches(self) -> int:
        """The screen's own, and torch's."""
        by_torch = BY_TORCH if self.plan.own.keep <= SORTED_ABOVE else BY_TORCH_SORTED
        return sum(work.launches for work in self.works) + by_torch

    @property
    def device(self) -> float:
        """Seconds of the device."""
        return sum(work.expected(self.chip) for work in self.works)

    @property
    def host(self) -> float:
        """Seconds of the host, which come on top: it has little to do before the long kernels and waits behind them."""
        return self.launches * PER_LAUNCH

    @property
    def product(self) -> float:
        """Seconds of the bare float16 product at the maker's rate: below that no search by products can come."""
        return 2.0 * self.shape.n * self.shape.n_ctrs * self.shape.d / self.chip.float16


def modelled(shape: Shape, chip: Chip) -> Search:
    """Return what a search should take on a chip."""
    n, n_ctrs, d, k = shape[:4]
    machine = Machine(gpu=chip.gpu)
    plan = make_plan(n, n_ctrs, d, k, n_ctrs, machine=machine, float32=not shape.half, budget=shape.memory or MEMORY)
    return Search(shape, chip, plan, works_of(shape, chip, plan.own) if isinstance(plan.own, Settings) else ())


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
    groups = 8 * own.edges[0]
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


def summary(searches: list[Search]) -> str:
    """Return a table of searches."""
    lines = [
        "| search | launches | TFLOP | GB moved | product alone, ms | device | host | expected | measured | limit |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in searches:
        if not one.works:
            lines.append(f"| {one.shape} | screen {one.plan.screen}: {one.plan.reason}; not modelled |" + " |" * 8)
            continue
        longest = max(one.works, key=lambda work: work.expected(one.chip))
        binds = "host" if one.host > one.device else f"{longest.binds(one.chip)} of {longest.kernel}"
        flop, moved = sum(work.product for work in one.works), sum(work.moved for work in one.works)
        times = (one.product, one.device, one.host, one.device + one.host)
        cells = [
            str(one.shape),
            str(one.launches),
            _two(flop / 1e12),
            _two(moved / 1e9),
            *map(_ms, times),
            known(one),
            binds,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def by_kernel(one: Search) -> str:
    """Return a table of the kernels of a search, and what stands above the bare product."""
    lines = ["| kernel | launches | limit | at the limit, ms | expected, ms |", "|---|---|---|---|---|"]
    for work in sorted(one.works, key=lambda work: -work.expected(one.chip)):
        least = max(work.limits(one.chip).values())
        cells = [work.kernel, str(work.launches), work.binds(one.chip), _ms(least), _ms(work.expected(one.chip))]
        lines.append(f"| {' | '.join(cells)} |")
    scan = next(work for work in one.works if work.kernel == "scan")
    above = {
        "columns and rows filled up, processors idle": scan.limits(one.chip)["products"] - one.product,
        "the scan beside its products' limit": scan.expected(one.chip) - scan.limits(one.chip)["products"],
        "the other kernels": one.device - scan.expected(one.chip),
        "the host": one.host,
    }
    told = "; ".join(f"{what} {_ms(time)} ms" for what, time in above.items())
    return "\n".join(lines) + f"\n\nAbove the bare product of {_ms(one.product)} ms stand: {told}."


def known(one: Search) -> str:
    """Return the measured milliseconds of a search on a chip, if there are any."""
    results = Path(__file__).parent / "results" / "gpu.json"
    found: dict[str, float] = FIRST_RUN
    on = CHIPS[0].name
    if results.exists():
        told = json.loads(results.read_text())
        on, found = told["setting"]["chip"], {name: case["times"].get("knn_mc") for name, case in told["cases"].items()}
    time = found.get(str(one.shape)) if one.chip.name.split()[0] in on else None
    return "-" if time is None else _two(time)


def _two(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def _ms(seconds: float) -> str:
    return _two(1e3 * seconds)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--chips", nargs="*", default=[""], help="chips whose name contains one of these")
    options.add_argument("--cases", nargs="*", default=[""], help="searches whose line contains one of these")
    options.add_argument("--kernels", action="store_true", help="also by kernel")
    given = options.parse_args()
    shapes = [shape for shape in SHAPES if any(text in str(shape) for text in given.cases)]
    for chip in CHIPS:
        if any(text in chip.name for text in given.chips):
            searches = [modelled(shape, chip) for shape in shapes]
            print(f"## {chip.name}\n\n{summary(searches)}\n")
            for one in searches if given.kernels else ():
                if one.works:
                    print(f"{one.shape}:\n\n{by_kernel(one)}\n")


if __name__ == "__main__":
    main()
