"""Time and peak memory against n, for n rows among n centres: our two screens beside the k-d trees.

    python benchmarks/curves.py [--dimensions 3 8] [--sizes 10000 ...] [--rivals NAME ...] [--rounds 2] [--out FOLDER]

Gaussian float32 points, k = 10. Every library runs in a process of its own, warmed up on a small problem; the least
time of all rounds counts, building included. Memory is the rise of peak resident memory, answer included. The dense
screen stops where it would take more than a minute. Results are merged into curves.json, curves.md and curves.png.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from cases import gaussian
from rivals import RIVALS
from run import THREADS, reset_peak, status
from torch import Tensor

K = 10
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
MOST_SECONDS = 60.0
Results = dict[str, dict[str, dict[str, list[float]]]]  # dimension -> library -> n -> seconds, MiB


def screened(screen: str) -> Callable[[Tensor, Tensor, int], Tensor]:
    """Return a search that takes this screen, whatever the data."""

    def search(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
        from janelia_core.ml._knn.choose import make_plan
        from janelia_core.ml._knn.data.points import Points
        from janelia_core.ml._knn.search import search
        from janelia_core.ml._runtime.machine import this_machine

        plan = make_plan(len(x), len(ctrs), x.shape[1], k, len(ctrs), machine=this_machine(x.device), budget=256 << 20)
        plan = replace(plan, look=None) if screen == "tree" else plan.otherwise or plan
        if plan.screen != screen:
            raise ValueError(f"{plan.screen} where {screen} was asked for")
        return search(Points(x), Points(ctrs), plan)

    return search


SEARCHES = {
    "tree": screened("tree"),
    "dense": screened("dense"),
    "pykdtree": RIVALS["pykdtree"],
    "scipy": RIVALS["scipy"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", nargs="*", type=int, default=[3, 8])
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--rivals", nargs="*", default=list(SEARCHES))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--child", nargs=3, metavar=("LIBRARY", "N", "D"))
    args = parser.parse_args()
    if args.child:
        child(args.child[0], int(args.child[1]), int(args.child[2]))
        return
    path = args.out / "curves.json"
    results: Results = json.loads(path.read_text()) if path.exists() else {}
    for d in args.dimensions:
        for n in args.sizes:
            for turn in range(args.rounds * len(args.rivals)):
                measure(results, args.rivals[turn % len(args.rivals)], n, d)
                path.write_text(json.dumps(results, indent=1) + "\n")
            (args.out / "curves.md").write_text(as_table(results))
            draw(results, args.out / "curves.png")
    print(as_table(results))


def measure(results: Results, library: str, n: int, d: int) -> None:
    """Run one library once, in a process of its own, and keep its least time and its highest peak."""
    points = results.setdefault(str(d), {}).setdefault(library, {})
    expected = [seconds * (n / int(size)) ** 2 for size, (seconds, _) in points.items() if library == "dense"]
    if expected and min(expected) > MOST_SECONDS:
        return
    command = [sys.executable, __file__, "--child", library, str(n), str(d)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{library} at n = {n}, d = {d}: {done.stderr}")
    seconds, mib = json.loads(done.stdout.splitlines()[-1])
    before = points.get(str(n), [math.inf, 0.0])
    points[str(n)] = [min(seconds, before[0]), max(mib, before[1])]


def child(library: str, n: int, d: int) -> None:
    torch.set_num_threads(THREADS)
    search = SEARCHES[library]
    search(*gaussian(4000, 4000, d, K))
    x, ctrs, k = gaussian(n, n, d, K)
    before = reset_peak()
    start = time.perf_counter()
    search(x, ctrs, k)
    print(json.dumps([time.perf_counter() - start, (status("VmHWM") - before) / 1024]))


def as_table(results: Results) -> str:
    """Render seconds, peak memory and the growth of the tree's time as Markdown."""
    lines = [
        f"n rows among n centres, Gaussian, float32, k = {K}, {THREADS} threads: seconds (peak MiB, answer included); "
        "growth: the tree's time over n log n, 1 at the first size.",
        "",
    ]
    for d, libraries in results.items():
        sizes = sorted({int(n) for points in libraries.values() for n in points})
        lines += [f"| d = {d}, n | " + " | ".join(libraries) + " | growth |", "|---" * (len(libraries) + 2) + "|"]
        for n in sizes:
            cells = [_cell(points.get(str(n))) for points in libraries.values()]
            lines.append(f"| {n} | " + " | ".join(cells) + f" | {_growth(libraries.get('tree', {}), n)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(taken: list[float] | None) -> str:
    return "-" if taken is None else f"{taken[0]:.3f} ({taken[1]:.0f})"


def _growth(points: dict[str, list[float]], n: int) -> str:
    if str(n) not in points:
        return "-"
    first = min(map(int, points))
    per_unit = [points[str(size)][0] / (size * math.log(size)) for size in (n, first)]
    return f"{per_unit[0] / per_unit[1]:.2f}"


def draw(results: Results, path: Path) -> None:
    """Draw seconds against n, one panel a dimension, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(results), figsize=(5 * len(results), 4), squeeze=False, sharey=True)
    for panel, (d, libraries) in zip(panels[0], results.items(), strict=True):
        for library, points in libraries.items():
            sizes = sorted(points, key=int)
            seconds = [points[n][0] for n in sizes]
            panel.loglog([int(n) for n in sizes], seconds, marker="o", label=library)
        panel.set(title=f"d = {d}", xlabel="n rows among n centres")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("seconds, building included")
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
