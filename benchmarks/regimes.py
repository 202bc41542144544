"""Every regime of ordinary searches: ours beside the best of five libraries, answers compared first.

    python benchmarks/regimes.py [--regimes TEXT ...] [--rounds 3] [--out benchmarks/results]

Each library runs all cases in a process of its own, one library after the other, as often as there are rounds; a time
is the least of all calls of a round that 0.6 s hold, three at least, after three calls that warm up, and the report
takes the least over rounds. Writes regimes.json, regimes.md and regimes.png: the best rival's time over ours.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rivals import RIVALS
from run import THREADS, _check, _processor, _versions, repeated
from torch import Tensor

LIBRARIES = ("ours", "faiss", "torch", "sklearn", "pykdtree", "scipy")
LONG, CALLS, SPAN = 4.0, 3, 0.6
PAIRS, WORK = 2.2e8, 2e11  # of torch.cdist, which holds them; of libraries that look at all of them


class Case(NamedTuple):
    """Rows x centres x columns, neighbours; what values are like, and what is asked of them."""

    n: int
    n_ctrs: int
    d: int
    k: int
    data: str = "gauss"
    asked: str = "indices"


REGIMES: dict[str, list[Case]] = {
    "few rows": [
        Case(1, 100_000, 64, 10),
        Case(1, 100_000, 768, 10),
        Case(10, 1_000_000, 3, 10),
        Case(10, 100_000, 128, 10),
        Case(100, 100_000, 3, 10),
        Case(100, 100_000, 64, 10),
    ],
    "few centres": [
        Case(100_000, 16, 3, 1),
        Case(100_000, 100, 8, 1),
        Case(100_000, 1024, 16, 1),
        Case(100_000, 256, 64, 1),
        Case(20_000, 4096, 128, 1),
        Case(10_000, 256, 2, 1),
        Case(1_000_000, 64, 2, 3),
        Case(500_000, 1000, 3, 4, "uniform"),
        Case(50_000, 40, 32, 2),
        Case(200_000, 512, 4, 1),
    ],
    "small, every step": [
        Case(64, 64, 8, 3),
        Case(256, 512, 256, 1),
        Case(1000, 1000, 10, 5),
        Case(2000, 2000, 3, 16),
        Case(512, 8192, 64, 1),
        Case(300, 200, 32, 1),
        Case(200, 100, 3, 5, asked="distances"),
        Case(64, 32, 8, 2, asked="backward"),
        Case(1000, 1000, 16, 5, asked="backward"),
    ],
    "many neighbours": [
        Case(500, 3000, 16, 3000),
        Case(1000, 10_000, 3, 1000),
        Case(10_000, 10_000, 64, 1000),
        Case(3000, 5000, 100, 2500),
        Case(5000, 50_000, 96, 100, "clusters"),
    ],
    "the usual": [
        Case(10_000, 8192, 16, 10),
        Case(10_000, 8192, 64, 10),
        Case(10_000, 16_384, 768, 10),
        Case(2000, 131_072, 128, 10),
        Case(20_000, 20_000, 12, 15),
        Case(20_000, 20_000, 50, 15, "rank 12"),
        Case(50_000, 50_000, 50, 10, "clusters"),
        Case(100_000, 100_000, 1, 5),
        Case(100_000, 100_000, 3, 10, "sphere"),
        Case(50_000, 50_000, 6, 15, "clusters"),
    ],
    "batches": [  # n clouds of n_ctrs points among themselves
        Case(8192, 20, 3, 5, asked="clouds"),
        Case(1024, 128, 3, 8, asked="clouds"),
        Case(32, 2048, 64, 20, asked="clouds"),
        Case(64, 1024, 3, 16, asked="clouds"),
    ],
    "a mask for each pair": [
        Case(2000, 20_000, 64, 10, asked="masked"),
        Case(2000, 20_000, 3, 10, asked="masked"),
        Case(200, 500, 16, 5, asked="masked"),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regimes", nargs="*", default=[""], help="run regimes whose name contains one of these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--child", nargs=2, metavar=("LIBRARY", "FOLDER"))
    args = parser.parse_args()
    wanted = [(name, case) for name, cases in REGIMES.items() for case in cases if any(t in name for t in args.regimes)]
    if args.child:
        child(*args.child, wanted)
        return
    args.out.mkdir(exist_ok=True)
    times: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for library in LIBRARIES * args.rounds:
            command = [sys.executable, __file__, "--child", library, folder, "--regimes", *args.regimes]
            subprocess.run(command, check=True)
            for name, seconds in json.loads(Path(folder, "times.json").read_text()).items():
                own = times.setdefault(name, {})
                own[library] = min(seconds, own.get(library, math.inf))
    write(args.out, wanted, times)


def child(library: str, folder: str, wanted: list[tuple[str, Case]]) -> None:
    """Time one library; ours leaves its answers for the others, of which those that differ much are not timed."""
    torch.set_num_threads(THREADS)
    times = {}
    for _, case in wanted:
        call = call_of(library, case)
        if call is None:
            continue
        answer, path = indices_of(call()), Path(folder, f"{named(case)}.npy")
        if library == "ours":
            np.save(path, answer)
        elif float((answer != np.load(path)).mean()) > 0.02:  # float32 distances of others swap a few
            raise AssertionError(f"{library} answers another question: {case}")
        repeated(call, 1, 0.1)
        first = repeated(call, 1, 0.0)[0]
        times[named(case)] = first if first > LONG else min(repeated(call, CALLS, SPAN))
    Path(folder, "times.json").write_text(json.dumps(times))


def named(case: Case) -> str:
    return (
        " x ".join(map(str, case[:3]))
        + f", k={case.k}"
        + "".join(f", {t}" for t in case[4:] if t not in "gauss indices")
    )


def points(case: Case) -> tuple[Tensor, Tensor]:
    """Return rows and centres, float32."""
    g = torch.Generator().manual_seed(case.n + 7 * case.n_ctrs + 11 * case.d)
    total, d = case.n + case.n_ctrs, case.d
    values = torch.randn(total, d, generator=g)
    if case.data == "uniform":
        values = torch.rand(total, d, generator=g)
    elif case.data == "sphere":
        values /= values.norm(dim=1, keepdim=True)
    elif case.data == "clusters":
        values += 10 * torch.randn(100, d, generator=g)[torch.randint(100, (total,), generator=g)]
    elif case.data == "rank 12":
        flat = torch.randn(total, 12, generator=g) * torch.arange(12, 0, -1)
        values = flat @ torch.randn(12, d, generator=g) + 0.1 * values
    return values[: case.n].contiguous(), values[case.n :].contiguous()


def call_of(library: str, case: Case) -> Callable[[], Any] | None:
    """Return what to time; None where a library does not do this, or not in reasonable time."""
    if case.asked == "clouds":
        x = torch.randn(case.n, case.n_ctrs, case.d, generator=torch.Generator().manual_seed(0))
        return asked_of(library, x, x, case, None)
    x, ctrs = points(case)
    if case.asked != "indices":
        mask = torch.rand(case.n, case.n_ctrs, generator=torch.Generator().manual_seed(0)) < 0.5
        return asked_of(library, x, ctrs, case, mask if case.asked == "masked" else None)
    work = case.n * case.n_ctrs * max(case.d, 8)
    fits = {
        "torch": case.n * case.n_ctrs <= PAIRS,
        "faiss": work <= WORK,
        "sklearn": work <= WORK,
        "pykdtree": case.d <= 20 and case.k <= 200,
        "scipy": case.d <= (20 if case.n * case.n_ctrs <= 1e9 else 8),
    }
    if not fits.get(library, True):
        return None
    rival = RIVALS[{"ours": "janelia", "torch": "cdist_topk"}.get(library, library)]
    if library == "ours":
        _check(x, ctrs, rival(x, ctrs, case.k))  # type: ignore[arg-type]
    return lambda: rival(x, ctrs, case.k)


def asked_of(library: str, x: Tensor, ctrs: Tensor, case: Case, mask: Tensor | None) -> Callable[[], Any] | None:
    """Return a call with distances, derivatives, masks or clouds, which torch alone does beside us."""
    if case.asked == "backward":
        x.requires_grad_()
        ctrs.requires_grad_()

    def ours() -> Any:
        from janelia_core.ml import knn

        return knn(x, ctrs, case.k, mask=mask)

    def theirs() -> Any:
        far = torch.cdist(x, ctrs)
        return (far if mask is None else far.masked_fill_(~mask, math.inf)).topk(case.k, largest=False)

    search = {"ours": ours, "torch": theirs}.get(library)
    if search is None or case.asked != "backward":
        return search

    def differentiated() -> Any:
        found = search()
        found[0].sum().backward()
        return found

    return differentiated


def indices_of(found: Any) -> np.ndarray[Any, Any]:
    found = found if isinstance(found, Tensor) else found.indices
    return np.asarray(found.numpy(), np.int64)


def write(out: Path, wanted: list[tuple[str, Case]], times: dict[str, dict[str, float]]) -> None:
    """Write all times, the table, and the plot."""
    setting = {"machine": _processor(), "threads": THREADS, "versions": _versions()}
    rows = []
    for regime, case in wanted:
        own = dict(times[named(case)])
        ours = own.pop("ours")
        best = min(own, key=lambda library: own[library])
        rows.append((regime, named(case), ours, best, own[best] / ours))
    ratios = [ratio for *_, ratio in rows]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    summary = f"{len(rows)} cases; a rival faster in {sum(r < 1 for r in ratios)}; geometric mean {mean:.2f}."
    lines = [
        f"{setting['machine']}, {THREADS} threads. {summary}",
        "",
        "| regime | n x n_ctrs x d | ours, ms | best rival | its time over ours |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {regime} | {name} | {ours * 1e3:.3g} | {best} | {ratio:.2f} |" for regime, name, ours, best, ratio in rows
    ]
    (out / "regimes.json").write_text(json.dumps({"setting": setting, "seconds": times}, indent=1) + "\n")
    (out / "regimes.md").write_text("\n".join(lines) + "\n")
    draw(rows, out / "regimes.png", f"{setting['machine']}, {THREADS} threads")
    print("\n".join(lines))


def draw(rows: list[tuple[str, str, float, str, float]], path: Path, setting: str) -> None:
    """Plot the best rival's time over ours, a line a regime."""
    import matplotlib.pyplot as pyplot

    regimes = list(dict.fromkeys(row[0] for row in rows))
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.5 * len(regimes)), layout="constrained")
    axes.axvline(1.0, color="black", linewidth=1)
    for line, regime in enumerate(regimes):
        ratios = [row[4] for row in rows if row[0] == regime]
        axes.plot(ratios, [line] * len(ratios), "o", color="C0", alpha=0.6)
        axes.plot([math.exp(sum(map(math.log, ratios)) / len(ratios))], [line], "|", color="C3", markersize=18)
    axes.set_yticks(range(len(regimes)), regimes)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(f"time of the best rival over ours (right of 1: ours is faster; bar: geometric mean); {setting}")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
