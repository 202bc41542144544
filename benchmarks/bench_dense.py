"""Times the dense screen with verification against FAISS flat and the bare float32 product, one process each.

    PYTHONPATH=src python benchmarks/bench_dense.py [--rows 0 1 2] [--rounds 3]

Every library runs alone in its process with two threads; rounds interleave them; the best wall time of all
rounds counts. The answers of 50 rows are compared with float64 distances of all centres.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

SHAPES = [
    (10000, 8192, 16, 10),
    (10000, 8192, 64, 10),
    (10000, 8192, 128, 10),
    (10000, 16384, 768, 10),
    (10000, 16384, 64, 100),
    (2000, 131072, 128, 10),
]
CALL_ROWS = 512


def load(data: str) -> tuple[np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(0)
    if data.isdigit():
        n, n_ctrs, d, k = SHAPES[int(data)]
        return rng.standard_normal((n, d), np.float32), rng.standard_normal((n_ctrs, d), np.float32), k
    images = fashion_mnist()
    if data == "pooled":  # 7 x 7 means of 4 x 4 pixels, as sums: integers up to 4080
        images = images.reshape(-1, 7, 4, 7, 4).sum((2, 4)).reshape(len(images), 49)
    order = rng.permutation(len(images))
    images = images[order].astype(np.float32)
    return images[:10000], images[10000:], 10


def fashion_mnist() -> np.ndarray:
    import gzip
    from pathlib import Path

    parts = []
    for name in ("train", "t10k"):
        (path,) = Path("/usr/share").rglob(f"{name}-images-idx3-ubyte*")
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        parts.append(np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784).astype(np.int32))
    return np.concatenate(parts)


def single_threaded_pool(workers: int) -> ThreadPoolExecutor:
    """A pool whose threads run torch with one thread each, while every other thread keeps its count.

    `torch.set_num_threads` sets (a) the calling thread's OpenMP count and (b) a process-wide number that a
    thread copies when it first asks. So a worker first asks (else it would copy (b) again later), then sets
    1; afterwards a throwaway thread sets (b) back to what new threads saw before.
    """
    import torch

    def in_new_thread(job: Callable[[], object]) -> None:
        thread = threading.Thread(target=job)
        thread.start()
        thread.join()

    inherited: list[int] = []
    in_new_thread(lambda: inherited.append(torch.get_num_threads()))
    ready = threading.Barrier(workers + 1)

    def settle() -> None:
        torch.get_num_threads()
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(workers, initializer=settle)
    for _ in range(workers):
        pool.submit(int)
    ready.wait()
    in_new_thread(lambda: torch.set_num_threads(inherited[0]))
    return pool


def ours(x: np.ndarray, y: np.ndarray, k: int, data: str) -> dict[str, object]:
    import torch

    from janelia_core.ml._knn import screen_dense, verify_kernels
    from janelia_core.ml._knn.points import Points

    before = torch.get_num_threads()
    pool = single_threaded_pool(2)
    assert torch.get_num_threads() == before
    rows, ctrs = torch.from_numpy(x), torch.from_numpy(y)
    spent: dict[str, float] = {}

    def search() -> tuple[np.ndarray, np.ndarray, float, float]:
        start = time.perf_counter()
        screen = screen_dense.DenseScreen(Points(ctrs), k)
        spent["pack"] = time.perf_counter() - start
        spent["screen"] = spent["verify"] = 0.0
        keep = k + 1
        distances, indices = np.empty((len(x), keep)), np.empty((len(x), keep), np.int64)
        stats = []

        def block(first: int) -> None:
            t0 = time.thread_time()
            span = slice(first, first + CALL_ROWS)
            found = screen.candidates(rows[span])
            t1 = time.thread_time()
            verify_kernels.verify(x[span], y, found.indices.numpy(), distances[span], indices[span])
            certain = distances[span, k - 1] < found.excluded.numpy()
            stats.append((float((found.indices >= 0).sum()), float(certain.sum())))
            t2 = time.thread_time()
            spent["screen"] += t1 - t0
            spent["verify"] += t2 - t1

        list(pool.map(block, range(0, len(x), CALL_ROWS)))
        total, certain = np.array(stats).sum(0)
        return distances[:, :k], indices[:, :k], total / len(x), certain / len(x)

    result = search()
    wall, cpu = best(search, 3)
    _, indices, per_row, certified = result
    wrong = 0
    for i in range(0, len(x), len(x) // 50):
        truth = ((y.astype(np.float64) - x[i].astype(np.float64)) ** 2).sum(1)
        wrong += not np.array_equal(np.lexsort((np.arange(len(y)), truth))[:k], indices[i])
    return {"wall": wall, "cpu": cpu, "listed": per_row, "certified": certified, "wrong": wrong} | spent


def best(job: Callable[[], object], times: int) -> tuple[float, float]:
    wall = cpu = np.inf
    for _ in range(times):
        t0, c0 = time.perf_counter(), time.process_time()
        job()
        wall, cpu = min(wall, time.perf_counter() - t0), min(cpu, time.process_time() - c0)
    return wall, cpu


def child(library: str, data: str) -> dict[str, object]:
    x, y, k = load(data)
    if library == "ours":
        return ours(x, y, k, data)
    if library == "faiss":
        import faiss

        faiss.omp_set_num_threads(2)
        faiss.knn(x[:100], y, k)
        wall, cpu = best(lambda: faiss.knn(x, y, k), 3)
    else:
        import torch

        torch.set_num_threads(2)
        a, b = torch.from_numpy(x), torch.from_numpy(y)
        torch.mm(a[:100], b.T)
        wall, cpu = best(lambda: torch.mm(a, b.T), 3)
    return {"wall": wall, "cpu": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2)
    parser.add_argument("--rows", nargs="*", default=[str(row) for row in range(len(SHAPES))])
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    for data in options.rows:
        least: dict[str, dict[str, float]] = {}
        for _ in range(options.rounds):
            for library in ("ours", "faiss", "mm"):
                run = subprocess.run(
                    [sys.executable, __file__, "--child", library, data],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                got = json.loads(run.stdout.strip().splitlines()[-1])
                old = least.get(library)
                least[library] = got if old is None or got["wall"] < old["wall"] else old
        name = SHAPES[int(data)] if data.isdigit() else data
        mine, faiss, mm = (least[library] for library in ("ours", "faiss", "mm"))
        print(
            f"{name}: ours {mine['wall']:.3f} s, faiss {faiss['wall']:.3f}, mm {mm['wall']:.3f};",
            f"faiss/ours {faiss['wall'] / mine['wall']:.2f}, ours/mm {mine['wall'] / mm['wall']:.2f};",
            f"cpu {mine['cpu']:.2f}, {faiss['cpu']:.2f}, {mm['cpu']:.2f};",
            *(f"{key} {mine[key]:.3f}" for key in ("pack", "screen", "verify", "listed", "certified", "wrong")),
            flush=True,
        )


if __name__ == "__main__":
    main()
