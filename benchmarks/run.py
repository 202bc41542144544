"""Time and peak memory of every library on every case, each in a process of its own, answers checked first.

    python benchmarks/run.py [--cases TEXT ...] [--rivals NAME ...] [--rounds 3] [--out benchmarks/results]

A round runs each library once, one after the other; every process warms up for a second and a half, one call at
least, and then takes the least of all calls within a second, three at least, or of one where it takes more than five
seconds.
Results are merged case by case into results.json, results.md and results.png. The report gives the median over
rounds of the ratio to ours of the same round, its spread, the rise of peak resident memory during the calls (answer
included), and how many rows differ from the exact answer.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import CASES, rivals_of
from rivals import RIVALS

THREADS = 2
CALLS, LONG = 3, 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=[""], help="run cases whose name contains one of these")
    parser.add_argument("--rivals", nargs="*", default=[name for name in RIVALS if name != "bfloat16_mm"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--child", nargs=3, metavar=("CASE", "RIVAL", "FILE"))
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    args.out.mkdir(exist_ok=True)
    for case in CASES:
        if any(text in case for text in args.cases):
            rivals = [name for name in rivals_of(case) if name in args.rivals]
            write(args.out, case, compare(case, rivals, args.rounds))
    print((args.out / "results.md").read_text())


def write(out: Path, case: str, report: dict[str, Any]) -> None:
    """Merge the report of a case into what is there."""
    setting = {
        "machine": _processor(),
        "threads": THREADS,
        "python": platform.python_version(),
        "versions": _versions(),
    }
    path = out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    cases = results["cases"] | {case: report | {"date": date.today().isoformat()}}
    cases = {name: cases[name] for name in CASES if name in cases}
    path.write_text(json.dumps({"setting": setting, "cases": cases}, indent=1) + "\n")
    (out / "results.md").write_text(as_table(setting, cases))
    draw(setting, cases, out / "results.png")


def compare(case: str, rivals: list[str], rounds: int) -> dict[str, Any]:
    """Run all rivals on a case, interleaved; return what each took, relative to ours."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in rivals}
    with tempfile.TemporaryDirectory() as folder:
        for name in rivals * rounds:
            command = [sys.executable, __file__, "--child", case, name, f"{folder}/answer.npy"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{case}: {name} failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    ours = [run["seconds"] for run in runs["janelia"]]
    result = {}
    for name, taken in runs.items():
        if len(taken) < rounds:
            continue
        ratios = [run["seconds"] / own for run, own in zip(taken, ours, strict=True)]
        result[name] = {
            "seconds": min(run["seconds"] for run in taken),
            "ratio": statistics.median(ratios),
            "spread": [min(ratios), max(ratios)],
            "peak_mib": max(run["peak_mib"] for run in taken),
            "wrong_rows": taken[0]["wrong_rows"],
        }
    return result


def child(case: str, rival: str, file: str) -> None:
    """Run one library on one case and print what it took as JSON; ours leaves its answer for the others."""
    torch.set_num_threads(THREADS)
    x, ctrs, k = CASES[case]()
    search = RIVALS[rival]
    found = search(x, ctrs, k)
    if rival == "janelia":
        assert found is not None
        _check(x, ctrs, found)
        np.save(file, found.numpy())
    wrong = None if found is None else int((found.numpy() != np.load(file)).any(axis=1).sum())
    warm = repeated(lambda: search(x, ctrs, k), 1, 1.5)  # ours loads compiled kernels after a second of small calls
    before = reset_peak()
    seconds = repeated(lambda: search(x, ctrs, k), 1 if warm[0] > LONG else CALLS, 1.0)
    print(json.dumps({"seconds": min(seconds), "peak_mib": (status("VmHWM") - before) / 1024, "wrong_rows": wrong}))


def repeated(call: Callable[[], object], least: int, span: float) -> list[float]:
    """Return how many seconds calls took: as many calls as `span` seconds hold, `least` of them at least."""
    seconds: list[float] = []
    while len(seconds) < least or sum(seconds) < span:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def _check(x: torch.Tensor, ctrs: torch.Tensor, found: torch.Tensor) -> None:
    """Compare a few rows of our answer with the definition; no time is reported for a wrong answer."""
    from janelia_core.ml._knn.reference import nearest

    rows = torch.linspace(0, len(x) - 1, 2).long()
    few = torch.cat([found[rows].flatten(), torch.arange(0, len(ctrs), max(1, len(ctrs) // 500))]).unique()
    expected = few[nearest(x[rows], ctrs[few], found.shape[1])].T
    if not torch.equal(expected, found[rows]):
        raise AssertionError("our own answer is not the exact one")


def reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def _processor() -> str:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "numpy", "numba", "faiss-cpu", "scikit-learn", "scipy", "pykdtree"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def as_table(setting: dict[str, Any], cases: dict[str, Any]) -> str:
    """Render the report as a Markdown table."""
    names = [name for name in RIVALS if name != "janelia" and any(name in case for case in cases.values())]
    lines = [
        f"{max(taken['date'] for taken in cases.values())}, {setting['machine']}, {setting['threads']} threads, "
        + ", ".join(f"{name} {version}" for name, version in setting["versions"].items())
        + ".",
        "Each cell: time over ours (median of rounds), wrong rows in brackets.",
        "float32_mm is no search, but the bare matrix product that others start with.",
        "",
        "| case | ours, ms | peak, MiB | " + " | ".join(names) + " |",
        "|---" * (3 + len(names)) + "|",
    ]
    for case, taken in cases.items():
        ours = taken["janelia"]
        cells = [_cell(taken.get(name)) for name in names]
        lines.append(f"| {case} | {ours['seconds'] * 1e3:.2f} | {ours['peak_mib']:.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(setting: dict[str, Any], cases: dict[str, Any], path: Path) -> None:
    """Plot every library's time over ours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in RIVALS if name != "janelia" and any(name in case for case in cases.values())]
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.3 * len(cases)), layout="constrained")
    axes.axvline(1.0, color="black", linewidth=1)
    for name, marker in zip(names, "osD^vPX", strict=False):
        points = [(taken[name]["ratio"], row) for row, taken in enumerate(cases.values()) if name in taken]
        style = {"marker": "|", "markersize": 14} if name == "float32_mm" else {"marker": marker, "markersize": 6}
        axes.plot(*zip(*points, strict=True), linestyle="none", label=name, **style)
    axes.set_yticks(range(len(cases)), list(cases))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(
        f"time over ours, which is 1 (to the right: slower); {setting['machine']}, {setting['threads']} threads"
    )
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _cell(taken: dict[str, Any] | None) -> str:
    if taken is None:
        return "-"
    wrong = "" if taken["wrong_rows"] is None else f" ({taken['wrong_rows']})"
    return f"{taken['ratio']:.2f}{wrong}"


if __name__ == "__main__":
    main()
