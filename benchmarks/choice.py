"""Tree, dense, and what the plan and its look at the data choose: work of each, for many kinds of data.

    python benchmarks/choice.py [--cases TEXT ...] [--rounds 3] [--out benchmarks/results]

The three run one after the other in each round, each time in another order; the least time counts, in processor
seconds of all threads, so that other work on the machine does not. A case whose choice took more than 1.2 times the
better of the two is measured for as many rounds again, up to three times. Results are merged into choice.json and
choice.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.machine import this_machine

THREADS = 2
K = 10
MEMORY = 256 << 20
DIMENSIONS = (1, 2, 4, 8, 12, 16, 32)
SHAPES = ((5000, 10000), (1000, 30000), (300, 60000), (20000, 2500))
SHARP = 1.2  # measured again above
AGAIN = 3


def clustered(n: int, d: int, g: torch.Generator) -> Tensor:
    """A thousand round clusters, a thirtieth of their distances wide."""
    middles = torch.randn(1000, d, generator=torch.Generator().manual_seed(99))
    return middles[torch.randint(1000, (n,), generator=g)] + 0.03 * torch.randn(n, d, generator=g)


KINDS: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "uniform": lambda n, d, g: torch.rand(n, d, generator=g),
    "gaussian": lambda n, d, g: torch.randn(n, d, generator=g),
    "clustered": clustered,
    "on a line": lambda n, d, g: torch.rand(n, 1, generator=g) * torch.arange(1.0, d + 1),
    "all equal": lambda n, d, g: torch.full((n, d), 0.1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=[""], help="run cases whose name matches one of these patterns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    path = args.out / "choice.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for kind, d, n, n_ctrs in cases():
        name = f"{kind} {n} x {n_ctrs} x {d}"
        if any(re.search(pattern, name) for pattern in args.cases):
            results[name] = compare(kind, d, n, n_ctrs, args.rounds)
            print(f"{name}: {results[name]}", flush=True)
            path.write_text(json.dumps(results, indent=1) + "\n")
            (args.out / "choice.md").write_text(as_table(results))


def cases() -> Iterator[tuple[str, int, int, int]]:
    for n, n_ctrs in SHAPES:
        for kind in KINDS:
            for d in DIMENSIONS:
                yield kind, d, n, n_ctrs


def compare(kind: str, d: int, n: int, n_ctrs: int, rounds: int) -> dict[str, Any]:
    """Time both screens and the choice; answers must agree."""
    x, ctrs = (KINDS[kind](rows, d, torch.Generator().manual_seed(seed)) for seed, rows in ((1, n), (2, n_ctrs)))
    chosen = make_plan(n, n_ctrs, d, K, n_ctrs, machine=this_machine(x.device), budget=MEMORY)
    dense = chosen.otherwise or chosen
    tree = replace(chosen, screen="tree", look=None)
    with watch_knn() as reports:
        answers = [search(Points(x), Points(ctrs), plan) for plan in (chosen, tree, dense)]
    assert all(torch.equal(answer, answers[0]) for answer in answers)
    plans = (chosen, tree, dense)
    seconds = _least(x, ctrs, plans, rounds)
    for _ in range(AGAIN):
        if seconds[0] > SHARP * min(seconds[1:]):
            seconds = [min(pair) for pair in zip(seconds, _least(x, ctrs, plans, rounds), strict=True)]
    return {
        "chosen": reports[0].plan.screen,
        "look": reports[0].look,
        "tree_ms": round(seconds[1] * 1e3, 1),
        "dense_ms": round(seconds[2] * 1e3, 1),
        "chosen_ms": round(seconds[0] * 1e3, 1),
        "ratio": round(seconds[0] / min(seconds[1:]), 3),
    }


def _least(x: Tensor, ctrs: Tensor, plans: tuple[Plan, ...], rounds: int) -> list[float]:
    least = [float("inf")] * len(plans)
    # Whoever follows the dense screen pays for memory that it gave back, so that none must do so every time.
    orders = itertools.cycle(itertools.permutations(range(len(plans))))
    for order in itertools.islice(orders, rounds):
        for place in order:
            least[place] = min(least[place], _seconds(x, ctrs, plans[place]))
    return least


def _seconds(x: Tensor, ctrs: Tensor, plan: Plan) -> float:
    start = time.process_time()
    search(Points(x), Points(ctrs), plan)
    return time.process_time() - start


def as_table(results: dict[str, Any]) -> str:
    """Render all cases as a Markdown table, the worst choice first."""
    worst = sorted(results, key=lambda name: -results[name]["ratio"])
    most, median = (results[worst[place]]["ratio"] for place in (0, len(worst) // 2))
    lines = [
        f"Milliseconds of processor time, {THREADS} threads, float32, k = {K}. Worst: {most:.2f} times the better "
        f"screen; median {median:.2f}; {len(worst)} cases.",
        "",
        "| case | tree | dense | chosen | time | over the better |",
        "|---" * 6 + "|",
    ]
    for name in worst:
        taken = results[name]
        cells = (taken["tree_ms"], taken["dense_ms"], taken["chosen"], taken["chosen_ms"], f"{taken['ratio']:.2f}")
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
