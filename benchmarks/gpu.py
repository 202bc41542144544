"""knn_mc on a CUDA device: all that is to be measured there, by one command.

    python benchmarks/gpu.py [--cases TEXT ...] [--seconds 130] [--out benchmarks/results] [--dry]

Gaussian points on the device, the quick searches first. For each: the answer beside float64 differences, of some rows;
the least time of some calls, of knn_mc and of whom it must beat, and how many rows these answer otherwise; launches,
waits and peak memory of a call beside what its plan promised. Of the largest search so far: the time by kernel.
gpu.json and gpu.md are written after every search; none is begun after --seconds. A rival's call that would take more
than five seconds is left out, and says so.
--dry: tiny searches on the CPU, where there is no launch, wait or kernel to be counted.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_cases import SHAPES, Shape
from gpu_measure import MIB, by_kernel, counted, least, once, rows_compared, wrong_rows
from gpu_rivals import RIVALS, SCORES
from torch import Tensor

from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml.extra_torch_functions import knn_mc

MOST = 5.0  # seconds of a rival's call
TRIED = SCORES // 2  # of the rows that a rival's call is foretold by
DRY = (32, 500, 16)  # rows, centres, coordinates at most


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", nargs="*", default=[""], help="searches whose line contains one of these")
    options.add_argument("--seconds", type=float, default=130.0, help="after which no more is begun")
    options.add_argument("--out", type=Path)
    options.add_argument("--dry", action="store_true")
    given = options.parse_args()
    if not (given.dry or torch.cuda.is_available()):
        raise SystemExit("no CUDA device here")
    device, end = torch.device("cpu" if given.dry else "cuda"), time.monotonic() + given.seconds
    out = given.out or (Path(tempfile.mkdtemp()) if given.dry else Path(__file__).parent / "results")
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"setting": setting(device), "cases": {}, "kernels": {}}
    largest = 0
    for shape in SHAPES:
        if not any(text in str(shape) for text in given.cases):
            continue
        if time.monotonic() > end:
            print(f"{shape}: not begun, {given.seconds:.0f} seconds are over", flush=True)
            continue
        work = shape.n * shape.n_ctrs * shape.d
        try:
            case, kernels = measured(tiny(shape) if given.dry else shape, device, end, work > largest)
        except torch.OutOfMemoryError as error:
            case, kernels = {"times": {}, "said": {"knn_mc": str(error).partition(". ")[0]}}, None
        results["cases"][str(shape)] = case
        if kernels is not None:
            results["kernels"], largest = {"search": str(shape), "kernels": kernels}, work
        write(out, results)
        print(f"{shape}: {json.dumps(case)}", flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print((out / "gpu.md").read_text() if results["cases"] else "no such search")


def tiny(shape: Shape) -> Shape:
    n, n_ctrs, d = (min(size, most) for size, most in zip(shape[:3], DRY, strict=True))
    return shape._replace(n=n, n_ctrs=n_ctrs, d=d, k=min(shape.k, 8), memory=None)


def measured(shape: Shape, device: torch.device, end: float, profiled: bool) -> tuple[dict[str, Any], Any]:
    """Return what is to be told of a search, and the times of its kernels, if asked for."""
    x, ctrs = points(shape, device)
    search = partial(nearest, x, ctrs, shape)
    with watch_knn() as reports:
        first, found = once(search, device)
    wrong = wrong_rows(x, ctrs, found)
    times = {"knn_mc": 1e3 * least(search, device, first)}
    said: dict[str, str] = {}
    differ: dict[str, int] = {}
    case = {
        "screen": reports[0].plan.screen,
        "doubt": reports[0].n_escalated + reports[0].n_exhaustive,
        "first": first,
        "compared": min(shape.n, rows_compared(ctrs)),
        "wrong": wrong,
        "times": times,
        "said": said,
        "differ": differ,
        "promised": reports[0].plan.workspace_bytes / MIB,
        **counted(search, device),
    }
    kernels = by_kernel(search, device) if profiled else None
    for name, prepare in RIVALS.items():
        if time.monotonic() > end:
            said[name] = "no time left"
            continue
        try:
            taken, answer = rival(prepare, x, ctrs, shape.k, device)
        except Exception as error:  # whatever others raise: it is told
            said[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:90]}"
            continue
        times[name] = 1e3 * taken
        if answer.shape == found.shape:
            differ[name] = int((answer.to(found.device) != found).any(dim=1).sum())
    return case, kernels


def rival(prepare: Callable[..., Any], x: Tensor, ctrs: Tensor, k: int, device: torch.device) -> tuple[float, Tensor]:
    """Return the seconds of a rival's call and its answer; what a few rows foretell to take long is not begun."""
    some = max(1, TRIED // len(ctrs))
    if some < len(x):
        few = prepare(x[:some], ctrs, k)
        once(few, device)
        foretold = once(few, device)[0] * len(x) / some
        if foretold > MOST:
            raise TimeoutError(f"about {foretold:.0f} s, left out")
    run = prepare(x, ctrs, k)
    first, answer = once(run, device)
    return least(run, device, first), answer


def points(shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    source = torch.Generator(device).manual_seed(0)
    kind = torch.float16 if shape.half else torch.float32
    made = partial(torch.randn, device=device, generator=source, dtype=kind)
    return made(shape.n, shape.d), made(shape.n_ctrs, shape.d)


def nearest(x: Tensor, ctrs: Tensor, shape: Shape) -> Tensor:
    return knn_mc(x, ctrs, shape.k, len(ctrs), max_memory=shape.memory).T


def setting(device: torch.device) -> dict[str, str]:
    def version(*names: str) -> str:
        for name in names:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return "none"

    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU: a dry run"
    return {
        "chip": chip,
        "torch": torch.__version__,
        "triton": version("triton", "pytorch-triton", "pytorch-triton-rocm"),
        "python": platform.python_version(),
        "date": date.today().isoformat(),
    }


def write(out: Path, results: dict[str, Any]) -> None:
    (out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "gpu.md").write_text(as_text(results))


def as_text(results: dict[str, Any]) -> str:
    """Return the tables of gpu.md."""
    told, cases = results["setting"], results["cases"]
    names = ["knn_mc", *RIVALS]
    lines = [
        f"{told['chip']}, torch {told['torch']}, Triton {told['triton']}, Python {told['python']}, {told['date']}.",
        "Milliseconds, the least of some calls; in brackets: rows with other neighbours than ours.",
        "",
        f"| search | screen | {' | '.join(names)} | float64 differs | first call, s |",
        "|---|---" * 2 + "|---" * len(names) + "|",
    ]
    for name, case in cases.items():
        cells = [cell(case, rival) for rival in names]
        compared = f"{case['wrong']} of {case['compared']}" if "wrong" in case else "-"
        first = f"{case['first']:.2f}" if "first" in case else "-"
        lines.append(f"| {name} | {case.get('screen', '-')} | {' | '.join(cells)} | {compared} | {first} |")
    lines += [
        "",
        "| search | launches | waits | peak, MiB | promised, MiB | rows in doubt |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in cases.items():
        if "launches" in case:
            peak = "-" if case["peak"] is None else f"{case['peak']:.0f}"
            counts = f"{case['launches']} | {case['waits']} | {peak} | {case['promised']:.0f} | {case['doubt']}"
            lines.append(f"| {name} | {counts} |")
    reasons = {f"{rival}: {why}": None for case in cases.values() for rival, why in case["said"].items()}
    if reasons:
        lines += ["", "Not measured:", "", *(f"- {why}" for why in reasons)]
    if results["kernels"].get("kernels"):
        lines += ["", f"By kernel, {results['kernels']['search']}:", "", "| kernel | launches | ms |", "|---|---|---|"]
        lines += [f"| {one['name']} | {one['launches']} | {one['ms']:.3f} |" for one in results["kernels"]["kernels"]]
    return "\n".join(lines) + "\n"


def cell(case: dict[str, Any], rival: str) -> str:
    if rival not in case["times"]:
        return "-"
    differ = case["differ"].get(rival) if "differ" in case else None
    return f"{case['times'][rival]:.2f}" + ("" if differ is None else f" ({differ})")


if __name__ == "__main__":
    main()
