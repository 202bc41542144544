"""All within a radius, and the k nearest by other metrics, beside SciPy and scikit-learn; answers are compared first.

    python benchmarks/neighborhoods.py [--cases TEXT ...] [--rounds 3] [--json FILE]

Float32 points, 2 threads. Every library runs in a process of its own, one after the other, as often as there are
rounds; it answers a small problem first, so that kernels are there. A time is of one call, building included, the
least of all rounds; the ratio is theirs over ours. SciPy's balls come without distances, all others with them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("JANELIA_CORE_KERNELS", "wait")  # kernels are what is timed
THREADS = 2
Array = np.ndarray[Any, np.dtype[Any]]


class Case(NamedTuple):
    n: int
    n_ctrs: int
    d: int
    metric: str
    r: float = 0.0  # or the k nearest
    k: int = 0
    uniform: bool = False
    rivals: tuple[str, ...] = ("scipy", "sklearn")


CASES = {
    "radius, 1e6 x 1e6 x 3, 10 each": Case(1_000_000, 1_000_000, 3, "euclidean", r=0.01337, uniform=True),
    "radius, 100,000 x 100,000 x 3, 10 each": Case(100_000, 100_000, 3, "euclidean", r=0.0288, uniform=True),
    "radius, 10,000 x 50,000 x 64": Case(10_000, 50_000, 64, "euclidean", r=8.0, rivals=("sklearn",)),
    "radius, 2000 x 20,000 x 16": Case(2000, 20_000, 16, "euclidean", r=3.0),
    "manhattan, 100,000 x 100,000 x 3, k = 10": Case(100_000, 100_000, 3, "manhattan", k=10, rivals=("scipy",)),
    "chebyshev, 100,000 x 100,000 x 3, k = 10": Case(100_000, 100_000, 3, "chebyshev", k=10, rivals=("scipy",)),
    "manhattan, 10,000 x 100,000 x 8, k = 10": Case(10_000, 100_000, 8, "manhattan", k=10, rivals=("scipy",)),
    "chebyshev, 10,000 x 100,000 x 8, k = 10": Case(10_000, 100_000, 8, "chebyshev", k=10, rivals=("scipy",)),
    "manhattan, 5000 x 20,000 x 64, k = 10": Case(5000, 20_000, 64, "manhattan", k=10, rivals=("sklearn",)),
    "chebyshev, 5000 x 20,000 x 64, k = 10": Case(5000, 20_000, 64, "chebyshev", k=10, rivals=("sklearn",)),
}
_POWERS = {"euclidean": 2, "manhattan": 1, "chebyshev": np.inf}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=[""], help="run cases whose name contains one of these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--child", nargs=3, metavar=("CASE", "LIBRARY", "FILE"))
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    found = {name: report(name, args.rounds) for name in CASES if any(text in name for text in args.cases)}
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def report(name: str, rounds: int) -> dict[str, Any]:
    """Run all libraries on a case, interleaved, and print what each took."""
    libraries, best, wrong = ("ours", *CASES[name].rivals), dict[str, float](), dict[str, int]()
    with tempfile.TemporaryDirectory() as folder:
        for library in libraries * rounds:
            command = [sys.executable, __file__, "--child", name, library, f"{folder}/answer.npz"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name}, {library}:\n{done.stderr}")
            run = json.loads(done.stdout.splitlines()[-1])
            best[library] = min(run["seconds"], best.get(library, np.inf))
            wrong[library] = run["differ"]
    parts = [f"{library} {best[library]:.3f} s ({best[library] / best['ours']:.1f} x)" for library in libraries]
    print(f"{name}: {', '.join(parts)}; rows that differ from ours: {wrong}", flush=True)
    return {"seconds": best, "differ": wrong}


def child(name: str, library: str, file: str) -> None:
    """Answer, time, and print it all as a line of JSON; ours leaves its answers for the others."""
    case, source = CASES[name], np.random.default_rng(0)
    draw = source.random if case.uniform else source.standard_normal
    x, ctrs = (draw((n, case.d), dtype=np.float32) for n in (case.n, case.n_ctrs))
    answer = {"ours": ours, "scipy": scipy, "sklearn": sklearn}[library]
    answer(case, x[:1000], ctrs[:20_000])  # kernels and threads are there
    begin = time.perf_counter()
    found = answer(case, x, ctrs)
    seconds = time.perf_counter() - begin
    counts, indices = found()
    if library == "ours":
        np.savez(file, counts=counts, indices=indices)
    known = np.load(file)
    print(json.dumps({"seconds": seconds, "differ": differing(known["counts"], known["indices"], counts, indices)}))


def differing(counts: Array, indices: Array, their_counts: Array, theirs: Array) -> int:
    """Return how many rows have other members."""
    same = counts == their_counts
    if same.all():
        rows = np.repeat(np.arange(len(counts)), counts)
        ours, theirs = (ids[np.lexsort((ids, rows))] for ids in (indices, theirs))
        return len(np.unique(rows[ours != theirs]))
    return int((~same).sum())


def ours(case: Case, x: Array, ctrs: Array) -> Callable[[], tuple[Array, Array]]:
    import torch

    from janelia_core.ml import knn, radius

    torch.set_num_threads(THREADS)
    rows, centres = torch.from_numpy(x), torch.from_numpy(ctrs)
    if case.k:
        near = knn(rows, centres, case.k, metric=case.metric)
        return lambda: (np.full(len(x), case.k), near.indices.numpy().ravel())
    found = radius(rows, centres, case.r, metric=case.metric)
    return lambda: (found.counts.numpy(), found.indices.numpy())


def scipy(case: Case, x: Array, ctrs: Array) -> Callable[[], tuple[Array, Array]]:
    from scipy.spatial import cKDTree

    tree, p = cKDTree(ctrs), _POWERS[case.metric]
    if case.k:
        near = tree.query(x, case.k, p=p, workers=THREADS)[1]
        return lambda: (np.full(len(x), case.k), near.ravel())
    return ragged(tree.query_ball_point(x, case.r, p=p, workers=THREADS))


def sklearn(case: Case, x: Array, ctrs: Array) -> Callable[[], tuple[Array, Array]]:
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=max(1, case.k), radius=case.r, metric=case.metric, n_jobs=THREADS).fit(ctrs)
    if case.k:
        near = model.kneighbors(x)[1]
        return lambda: (np.full(len(x), case.k), near.ravel())
    return ragged(model.radius_neighbors(x)[1])


def ragged(lists: Any) -> Callable[[], tuple[Array, Array]]:
    return lambda: (np.array([len(one) for one in lists]), np.concatenate([np.asarray(one, np.int64) for one in lists]))


if __name__ == "__main__":
    main()
