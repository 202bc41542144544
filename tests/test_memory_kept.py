"""Calls of an index hold what is kept, and a plan's workspace: measured in a fresh process."""

from __future__ import annotations

import pytest

import fresh_process

MEASURE = """
import resource, sys
import torch
from janelia_core.ml import CenterIndex, knn
from janelia_core.ml.neighbors import watch_knn

n, n_ctrs, d, mebibytes = (int(v) for v in sys.argv[1:5])
metric, budget = sys.argv[5], mebibytes << 20

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()

def high():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))

torch.set_num_threads(2)
g = torch.Generator().manual_seed(0)
first = torch.rand(30_000, d, generator=g)
for size in (30_000, 1, 40, 2000):
    index = CenterIndex(first, metric=metric).prepare(100_000, 10)
    index.knn(first[:size], 10, max_memory=budget)
del index, first
x, c = (torch.rand(rows, d, generator=g) for rows in (n, n_ctrs))
torch.zeros(n, 10, dtype=torch.int64).add_(1)
index = CenterIndex(c, metric=metric)
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")  # resets the peak
before, plans, worst = resident(), [], 0
with watch_knn() as reports:
    for rows in (1, n, 1, 40, n):
        found = index.knn(x[:rows], 10, max_memory=budget)
        results = found.indices.nbytes + found.distances.nbytes
        del found
print(high() - before - results, max(r.plan.workspace_bytes for r in reports), index.nbytes)
"""


@pytest.mark.parametrize(
    ("n", "n_ctrs", "d", "mebibytes", "metric"),
    [(20_000, 300_000, 3, 64, "euclidean"), (2000, 100_000, 64, 64, "cosine"), (2000, 100_000, 64, 256, "euclidean")],
)
def test_the_peak_is_what_is_kept_and_the_plans_workspace(
    n: int, n_ctrs: int, d: int, mebibytes: int, metric: str
) -> None:
    done = fresh_process.run(MEASURE, n, n_ctrs, d, mebibytes, metric)
    assert done.returncode == 0, done.stderr
    used, promised, kept = map(int, done.stdout.split())
    assert 0 < kept <= n_ctrs * max(6 * d, 80)
    assert promised <= mebibytes << 20
    assert used <= promised + kept, f"used {used / 2**20:.1f} MiB of {promised / 2**20:.1f} and {kept / 2**20:.1f} kept"
