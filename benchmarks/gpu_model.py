"""What a search by the Triton screen should take on a GPU, from its plan and the chip's figures. Needs no GPU.

    python benchmarks/gpu_model.py [--chips TEXT ...] [--cases TEXT ...] [--kernels]

For each kernel: what it multiplies, moves and counts, by the plan of the search (`Settings`). Each of these, divided by
the chip's rate, is a limit; the largest binds. What is expected is that limit, or what is more: a limit divided by the
share of it that the kernel reached on an H100 (`gpu_chips.REACHED`, measured; on other chips assumed); and 0.8 ms of
the host. What was measured of the whole stands beside it: `results/gpu.json`, or early runs on an H100.
Rates are makers' figures, counts of operations were read from the kernels' sources: two digits at best.
Rows in doubt, which take the ladder, are not in it: Gaussian points have none.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

from gpu_cases import SHAPES, Shape
from gpu_chips import BESIDE, BY_TORCH, CHIPS, PER_LAUNCH, RUNS, TO_ORDER, TO_SORT, TO_TOPK, Chip
from gpu_works import Work, works_of

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.triton.cost import Settings
from janelia_core.ml._runtime.machine import Machine


class Search(NamedTuple):
    """What a search should take.

    Attributes:
        shape: What is asked.
        chip: Where.
        plan: Its plan.
        works: What its kernels do.
        why: Why that is not told.
    """

    shape: Shape
    chip: Chip
    plan: Plan
    works: tuple[Work, ...]
    why: str = ""

    @property
    def launches(self) -> int:
        """The screen's own, and torch's."""
        kernels = {work.kernel for work in self.works}
        more = {"sort": TO_ORDER, "topk": TO_TOPK, "sort lists": TO_SORT}
        by_torch = BY_TORCH + sum(launches for name, launches in more.items() if name in kernels)
        return by_torch + sum(work.launches for work in self.works)

    @property
    def device(self) -> float:
        """Seconds of the device."""
        return sum(work.expected(self.chip) for work in self.works)

    @property
    def host(self) -> float:
        """Seconds of the host for launches."""
        return self.launches * PER_LAUNCH

    @property
    def expected(self) -> float:
        """Seconds of the whole: launches are made while the device works."""
        return BESIDE + max(self.device, self.host)

    @property
    def product(self) -> float:
        """Seconds of the bare float16 product at the maker's rate: below that no search by products can come."""
        return 2.0 * self.shape.n * self.shape.n_ctrs * self.shape.d / self.chip.float16


def modelled(shape: Shape, chip: Chip) -> Search:
    """Return what a search should take on a chip."""
    n, n_ctrs, d, k = shape[:4]
    points = (n + n_ctrs) * d * shape.nbytes
    budget = shape.memory or 1 << (int(chip.holds - points) // 2).bit_length() - 1  # as `sensible_memory` has it
    machine = Machine(gpu=chip.gpu)
    plan = make_plan(n, n_ctrs, d, k, n_ctrs, machine=machine, float32=not shape.half, budget=budget)
    own = plan.own
    if not isinstance(own, Settings):
        return Search(shape, chip, plan, (), f"screen {plan.screen}: {plan.reason}; not modelled")
    packed = n_ctrs * own.tile.width * 2
    if points + packed > chip.holds:
        return Search(shape, chip, plan, (), f"{(points + packed) / 1e9:.0f} GB do not fit")
    return Search(shape, chip, plan, works_of(shape, chip, own))


def summary(searches: list[Search]) -> str:
    """Return a table of searches."""
    lines = [
        "| search | launches | TFLOP | GB moved | product alone, ms | device | host | expected | measured | limit |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in searches:
        if not one.works:
            lines.append(f"| {one.shape} | {one.why} |" + " |" * 8)
            continue
        longest = max(one.works, key=lambda work: work.expected(one.chip))
        binds = "host" if max(one.host, BESIDE) > one.device else f"{longest.binds(one.chip)} of {longest.kernel}"
        flop, moved = sum(work.product for work in one.works), sum(work.moved for work in one.works)
        times = (one.product, one.device, one.host, one.expected)
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
        "the host": one.expected - one.device,
    }
    told = "; ".join(f"{what} {_ms(time)} ms" for what, time in above.items())
    return "\n".join(lines) + f"\n\nAbove the bare product of {_ms(one.product)} ms stand: {told}."


def known(one: Search) -> str:
    """Return the measured milliseconds of a search on a chip, if there are any."""
    results = Path(__file__).parent / "results" / "gpu.json"
    found: dict[str, float] = RUNS
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
