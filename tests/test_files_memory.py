"""A search of files ten times its memory stays within it, measured in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import fresh_process
from janelia_core.files import save_vectors

MEASURE = """
import sys
import torch
from janelia_core.demo.resident_memory import with_peak_growth
from janelia_core.files import save_vectors, search_files
from janelia_core.ml.extra_torch_functions import knn_mc

folder, suffix, memory = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
# Libraries, kernels and their one-off buffers come first.
g = torch.Generator().manual_seed(1)
save_vectors(f"{folder}/w.{suffix}", torch.randn(3000, 128, generator=g))
search_files(f"{folder}/w.{suffix}", k=10, out=f"{folder}/w.npz", max_memory=memory)
search_files(f"{folder}/w.{suffix}", f"{folder}/x.npy", k=10, out=f"{folder}/v.npz", max_memory=memory)
knn_mc(torch.randn(30, 128), torch.randn(20_000, 128), 10, 20_000, max_memory=memory)  # as blocks of the file will be
report, growth = with_peak_growth(
    lambda: search_files(f"{folder}/c.{suffix}", f"{folder}/x.npy", k=10, out=f"{folder}/o.npz", max_memory=memory)
)
assert report.bytes_read == report.layout.bytes_read
print(growth, report.layout.ctr_bytes // (report.layout.n_ctrs * (512 + (4 if suffix == "fvecs" else 0))))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
@pytest.mark.parametrize("suffix", ["fvecs", "safetensors"])
def test_a_file_of_ten_times_the_memory_is_searched_within_it(suffix: str, tmp_path: Path) -> None:
    memory = 16 * 2**20
    g = torch.Generator().manual_seed(0)
    save_vectors(tmp_path / f"c.{suffix}", torch.randn(10 * memory // 512 + 1, 128, generator=g))
    save_vectors(tmp_path / "x.npy", torch.randn(30, 128, generator=g))
    run = fresh_process.run(MEASURE, tmp_path, suffix, memory)
    assert run.returncode == 0, run.stderr
    growth, passes = map(int, run.stdout.split())
    assert growth <= memory, f"grew by {growth / 2**20:.1f} MiB of {memory / 2**20:.0f} MiB"
    assert passes == 1
