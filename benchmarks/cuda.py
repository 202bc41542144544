"""knn_mc on a CUDA device: time beside what it must beat, launches, waits and memory of a call.

    python benchmarks/cuda.py [--shapes N,N_CTRS,D,K ...] [--memory MIB ...] [--seconds 20]

Gaussian float32 points on the device. A search that takes longer than --seconds is given up. `cdist` + `topk` and the
bare float16 product, which no exact search by products can beat by much, go block by block of 2^30 scores or less.
"""

from __future__ import annotations

import argparse
import collections
import signal
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from janelia_core.ml.extra_torch_functions import knn_mc

MIB = 1 << 20
SHAPES = ["10000,100000,128,10", "100000,100000,128,10", "100000,100000,3,16", "10000,100000,768,100"]
COUNTED = ["2000,10000,128,10", "2000,20000,128,10", "4000,20000,128,10"]
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shapes", nargs="*", default=SHAPES)
    options.add_argument("--memory", nargs="*", type=int, default=[256, 8192])
    options.add_argument("--seconds", type=int, default=20)
    given = options.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    search(*points(300, 3000, 8), 3, 256)
    for shape in given.shapes:
        timed(shape, given.memory, given.seconds)
    for shape in COUNTED:
        x, ctrs, k = problem(shape)
        print(f"{shape}: {counted(partial(search, x, ctrs, k, 256))}", flush=True)


def timed(shape: str, memories: list[int], most: int) -> None:
    x, ctrs, k = problem(shape)
    runs = {f"knn_mc within {memory} MiB": partial(search, x, ctrs, k, memory) for memory in memories}
    runs |= {"cdist + topk": partial(cdist_topk, x, ctrs, k), "float16 product": product(x, ctrs)}
    for name, run in runs.items():
        print(f"{shape}: {name} {1e3 * clock(run, most):.1f} ms", flush=True)


def problem(shape: str) -> tuple[Tensor, Tensor, int]:
    n, n_ctrs, d, k = map(int, shape.split(","))
    return *points(n, n_ctrs, d), k


def points(n: int, n_ctrs: int, d: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator("cuda").manual_seed(0)
    return torch.randn(n, d, device="cuda", generator=g), torch.randn(n_ctrs, d, device="cuda", generator=g)


def search(x: Tensor, ctrs: Tensor, k: int, memory: int) -> Tensor:
    return knn_mc(x, ctrs, k, len(ctrs), max_memory=memory * MIB)


def cdist_topk(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
    rows = max(1, (1 << 30) // len(ctrs))
    return torch.cat([torch.cdist(part, ctrs).topk(k, largest=False).indices for part in x.split(rows)])


def product(x: Tensor, ctrs: Tensor) -> Callable[[], None]:
    x, ctrs = x.half(), ctrs.half()

    def run() -> None:
        for part in ctrs.split(max(1, (1 << 30) // len(x))):
            torch.mm(x, part.T)

    return run


def clock(run: Callable[[], object], most: int) -> float:
    """Seconds of the second call, or inf if both take longer than `most`."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(most)
    try:
        run()
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    except TimeoutError:
        return float("inf")
    finally:
        signal.alarm(0)


def counted(run: Callable[[], object]) -> str:
    """Launches, waits with their places, and the peak of memory of a call."""
    run()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        run()
    launches = sum(event.name in LAUNCHES for event in seen.events())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        run()
        torch.cuda.set_sync_debug_mode("default")
    waits = collections.Counter(
        f"{w.filename.split('janelia_core/')[-1]}:{w.lineno}" for w in said if "called a synchron" in str(w.message)
    )
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before) / MIB
    return f"{launches} launches, {sum(waits.values())} waits {dict(waits.most_common())}, peak {peak:.1f} MiB"


if __name__ == "__main__":
    main()
