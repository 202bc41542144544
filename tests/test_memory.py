"""The workspace is measured in a fresh process and compared with the plan's promise."""

from __future__ import annotations

import pytest

import fresh_process

MEASURE = """
import resource, sys, threading, time
import torch
from janelia_core.ml.extra_torch_functions import knn_mc, knn_do
from janelia_core.ml.neighbors import watch_knn

n, n_ctrs, d, k, m, ties, max_memory = (int(v) for v in sys.argv[1:])

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

torch.set_num_threads(2)
g = torch.Generator().manual_seed(0)
# Libraries, kernels and their one-off buffers come first.
rows = max(64, 2**18 // max(1, d))
for size in (1.0, 1e-4):  # scores of the latter tell little, so that rows climb through all formats
    first = (1.0 + size * torch.rand(number, d, generator=g) for number in (rows, max(2048, 6 * k)))
    knn_mc(*first, k, m, max_memory=max_memory)
del first
x, c = (torch.rand(rows, d, generator=g) for rows in (n, n_ctrs))
if ties:
    x, c = (x * 3).floor_(), (c * 3).floor_()
torch.zeros(k, n, dtype=torch.int64).add_(1)  # the result's pages, counted as the caller's
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")  # resets the peak
before = resident()
result = torch.zeros(k, n, dtype=torch.int64).add_(1)
with watch_knn() as reports:
    out = knn_mc(x, c, k, m, max_memory=max_memory)
with open("/proc/self/status") as f:
    high = next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))
print(high - before - result.nbytes - out.nbytes, reports[0].plan.workspace_bytes)
"""


@pytest.mark.parametrize(
    ("n", "n_ctrs", "d", "k", "m", "ties", "mebibytes"),
    [
        (20000, 20000, 3, 10, 1000, 0, 256),
        (100, 1000, 10000, 5, 1000, 0, 256),
        (500, 10000, 16, 1000, 10000, 0, 64),
        (1000, 10000, 2, 10, 10000, 1, 16),  # nine different centres: every row goes up the ladder
        (200, 8192, 64, 10, 8192, 0, 1),
    ],
)
def test_the_peak_of_a_fresh_process_is_within_the_plans_promise(n, n_ctrs, d, k, m, ties, mebibytes):
    done = fresh_process.run(MEASURE, n, n_ctrs, d, k, m, ties, mebibytes << 20)
    assert done.returncode == 0, done.stderr
    used, promised = map(int, done.stdout.split())
    assert promised <= mebibytes * 2**20
    assert used <= promised, f"used {used / 2**20:.1f} MiB of {promised / 2**20:.1f} MiB"
