"""Trees over parts of the centres and distances keep to the memory promised, measured in a fresh process."""

from __future__ import annotations

import pytest

import fresh_process

MEASURE = """
import sys
import torch
from janelia_core.ml._knn.find import find
from janelia_core.ml.neighbors import watch_knn

n, n_ctrs, d, mebibytes = (int(v) for v in sys.argv[1:])

def status(field):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(field))

torch.set_num_threads(2)
g = torch.Generator().manual_seed(0)
find(torch.rand(5000, d, generator=g), torch.rand(20000, d, generator=g), 5)  # libraries and kernels come first
x, ctrs = (torch.rand(rows, d, generator=g) for rows in (n, n_ctrs))
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")  # resets the peak
before = status("VmRSS")
with watch_knn() as reports:
    found = find(x, ctrs, 5, max_memory=mebibytes << 20)
high = status("VmHWM")
few = torch.arange(0, n, n // 50)
nearest = torch.cdist(x[few].double(), ctrs.double(), compute_mode="donot_use_mm_for_euclid_dist")
assert torch.equal(nearest.topk(5, largest=False).indices.T, found[:, few])
plan = reports[0].plan
print(high - before - found.nbytes, plan.workspace_bytes, plan.own.trees.parts, plan.own.trees.rows)
"""


@pytest.mark.parametrize(
    ("n", "n_ctrs", "d", "mebibytes", "several"), [(5_000, 1_000_000, 3, 40, True), (1_500_000, 20_000, 2, 34, False)]
)
def test_the_peak_with_more_points_than_the_memory_holds_is_within_the_promise(n, n_ctrs, d, mebibytes, several):
    done = fresh_process.run(MEASURE, n, n_ctrs, d, mebibytes)
    assert done.returncode == 0, done.stderr
    used, promised, parts, rows = map(int, done.stdout.split())
    assert (parts > 1, rows < n) == (several, not several)
    assert promised <= mebibytes << 20
    assert used <= promised, f"used {used / 2**20:.1f} MiB of {promised / 2**20:.1f} MiB"


DISTANCES = """
import sys
import torch
from janelia_core.ml._knn.distances.distances import distances

def status(field):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(field))

torch.set_num_threads(1)  # or work would go to a thread, as after every fork, whose heap counts
x, ctrs = (torch.randn(rows, 64).to(getattr(torch, sys.argv[1])) for rows in (3000, 500))
indices = torch.randint(0, 500, (3000, 8))
distances(x[:1], ctrs, indices[:1], sys.argv[2], 1 << 20)  # libraries and kernels come first
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")  # resets the peak
before = status("VmRSS")
found = distances(x, ctrs, indices, sys.argv[2], 1 << 20)
print(status("VmHWM") - before - found.nbytes)
"""


@pytest.mark.parametrize(("dtype", "metric"), [("float16", "cosine"), ("float64", "cosine"), ("int64", "euclidean")])
def test_distances_keep_to_a_mebibyte(dtype, metric):
    done = fresh_process.run(DISTANCES, dtype, metric)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 1 << 20
