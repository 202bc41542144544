"""Kept centres: time of a call, of building, and bytes kept, beside indices of others; answers are compared first.

    python benchmarks/kept.py [--cases TEXT ...] [--rounds 3]

Gaussian float32 points, k = 10, 2 threads. Every library runs in a process of its own, one after the other, as often as
there are rounds; every call asks for other rows; a time is the median of all calls within a second of a round, the
ratio the median over rounds of theirs over ours. Building ends with one row answered from what was built.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

os.environ.setdefault("JANELIA_CORE_KERNELS", "wait")  # kernels are what is timed
THREADS, K, POOL = 2, 10, 20_000
CASES: dict[str, tuple[int, int, str, list[int], list[str]]] = {
    "1e6 x 3": (1_000_000, 3, "euclidean", [1, 100, 1000, 100_000], ["cKDTree", "cKDTree, 2 workers", "pykdtree"]),
    "200,000 x 128": (200_000, 128, "euclidean", [1, 8, 100], ["faiss"]),
    "100,000 x 384, cosine": (100_000, 384, "cosine", [1, 64], ["faiss"]),
}
Array = np.ndarray[Any, np.dtype[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=[""], help="run cases whose name contains one of these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("CASE", "LIBRARY", "FILE"))
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    for case in CASES:
        if any(text in case for text in args.cases):
            report(case, args.rounds)


def report(case: str, rounds: int) -> None:
    """Run all libraries on a case, interleaved, and print what each took."""
    rows, libraries = CASES[case][3], ["ours", "ours in eval mode", *CASES[case][4]]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in libraries}
    with tempfile.TemporaryDirectory() as folder:
        for name in libraries * rounds:
            command = [sys.executable, __file__, "--child", case, name, f"{folder}/answer.npy"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{case}, {name}:\n{done.stderr}")
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    for name, those in runs.items():
        parts = []
        for what in ["build", *map(str, rows)]:
            ratio = statistics.median(run[what] / ours[what] for run, ours in zip(those, runs["ours"], strict=True))
            parts.append(f"{what}: {1e3 * min(run[what] for run in those):.3f} ms ({ratio:.2f} x)")
        wrong = max(run["wrong"] for run in those)
        print(f"{case}, {name}: {'; '.join(parts)}; {those[0]['kept']}; rows that differ: {wrong}", flush=True)


def child(case: str, library: str, file: str) -> None:
    """Build, answer, time, and print it all as a line of JSON; the first library leaves its answers for the others."""
    n_ctrs, d, metric, rows, _ = CASES[case]
    source = np.random.default_rng(0)
    ctrs, x = (source.standard_normal((n, d), dtype=np.float32) for n in (n_ctrs, max(POOL, max(rows))))
    LIBRARIES[library](ctrs[:20_000], metric, x)(0, 1)  # kernels and threads are there
    begin = time.perf_counter()
    search = LIBRARIES[library](ctrs, metric, x)
    search(0, 1)
    times: dict[str, Any] = {"build": time.perf_counter() - begin}
    found = search(0, 1000)
    if library == "ours":
        np.save(file, found)
    times["wrong"] = int((np.load(file) != found).any(axis=1).sum())
    for n in rows:
        times[str(n)] = clock(search, n, len(x))
    times["kept"] = getattr(search, "kept", lambda: "")()
    print(json.dumps(times))


def clock(search: Callable[[int, int], Any], n: int, pool: int) -> float:
    """Return the median time of calls for n rows, other ones each time, within a second and of three calls at least."""
    taken, end, start = list[float](), time.perf_counter() + 1.0, 0
    while len(taken) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        search(start, start + n)
        taken.append(time.perf_counter() - begin)
        start = (start + n) % (pool - n + 1)
    return statistics.median(taken)


class Ours:
    """An index, prepared at once for all rows to come."""

    def __init__(self, ctrs: Array, metric: str, x: Array) -> None:
        import torch

        from janelia_core.ml import CenterIndex

        torch.set_num_threads(THREADS)
        self.index = CenterIndex(torch.from_numpy(ctrs), metric=metric).prepare(100_000, K)
        self.x = torch.from_numpy(x)

    def __call__(self, start: int, stop: int) -> Array:
        return self.index.knn(self.x[start:stop], K).indices.numpy()

    def kept(self) -> str:
        return f"{self.index.nbytes / self.index.ctrs.nbytes:.2f} of the centres' bytes kept"


class Module:
    """NearestCenters in eval mode, as many rows having been asked as make it keep what pays."""

    def __init__(self, ctrs: Array, metric: str, x: Array) -> None:
        import torch

        from janelia_core.ml import NearestCenters

        torch.set_num_threads(THREADS)
        self.module = NearestCenters(torch.from_numpy(ctrs), K, metric=metric).eval()
        self.x = torch.from_numpy(x)
        self.module(torch.from_numpy(ctrs[:20_000]))

    def __call__(self, start: int, stop: int) -> Array:
        return self.module(self.x[start:stop]).indices.numpy()


def faiss(ctrs: Array, metric: str, x: Array) -> Callable[[int, int], Array]:
    import faiss

    faiss.omp_set_num_threads(THREADS)
    if metric == "cosine":
        ctrs, x = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (ctrs, x))
    index = (faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2)(ctrs.shape[1])
    index.add(ctrs)
    return lambda start, stop: index.search(x[start:stop], K)[1]


def ckdtree(ctrs: Array, metric: str, x: Array, workers: int = 1) -> Callable[[int, int], Array]:
    from scipy.spatial import cKDTree

    tree = cKDTree(ctrs)
    return lambda start, stop: tree.query(x[start:stop], K, workers=workers)[1]


def pykdtree(ctrs: Array, metric: str, x: Array) -> Callable[[int, int], Array]:
    from pykdtree.kdtree import KDTree

    tree = KDTree(ctrs)
    return lambda start, stop: tree.query(x[start:stop], K)[1]


LIBRARIES: dict[str, Callable[..., Any]] = {
    "ours": Ours,
    "ours in eval mode": Module,
    "faiss": faiss,
    "cKDTree": ckdtree,
    "cKDTree, 2 workers": partial(ckdtree, workers=THREADS),
    "pykdtree": pykdtree,
}

if __name__ == "__main__":
    main()
