"""A search of files ten times its memory stays within it, measured in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import fresh_process
from janelia_core.demo.resident_memory import with_peak_growth
from janelia_core.files import save_vectors
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.screens.dense.frame import find_grid

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

STRANGE = """
import sys
from pathlib import Path
import numpy as np
import torch
from janelia_core.demo.resident_memory import with_peak_growth
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.formats.registry import format_named
from janelia_core.files.inputs.input import Input

memory = 2 * 2**20

def opened(path):
    with Input(path).opened("", memory, memory) as file:
        return file.read(0, 1).sum() + file.take(torch.arange(file.n - 9, file.n)).sum()

def written(path):
    rows = RawVectors(path.parent / "rows", 0, 1024, 3072, "f4")
    format_named(path.suffix[1:]).write(path, {"vectors": rows})

for at in sys.argv[2:]:
    path = Path(sys.argv[1]) / at
    work = opened if path.exists() else written
    work(path.with_name(f"small.{at}") if work is opened else path)
    print(at, with_peak_growth(lambda: work(path))[1])
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


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_rows_in_another_order_or_packed_are_opened_and_all_files_written_in_little_memory(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    large = torch.zeros(1024, 3072)
    large[::7] = torch.arange(3072.0)
    for name, rows in (("", large), ("small.", large[:20])):
        np.save(tmp_path / f"{name}columns.npy", np.asfortranarray(rows.numpy()))
        np.savez_compressed(tmp_path / f"{name}packed.npz", np.asfortranarray(rows.numpy()))
        torch.save(rows.t().contiguous().t(), tmp_path / f"{name}columns.pt")
        with h5py.File(tmp_path / f"{name}high.hdf5", "w") as file:
            file.create_dataset("a", data=rows.numpy(), chunks=(20, 500), compression="gzip", compression_opts=1)
    large.numpy().tofile(tmp_path / "rows")  # 12 MiB
    opened = ["columns.npy", "packed.npz", "columns.pt", "high.hdf5"]
    written = ["new.npy", "new.npz", "new.pt", "new.safetensors", "new.hdf5", "new.fvecs"]
    run = fresh_process.run(STRANGE, tmp_path, *opened, *written)
    assert run.returncode == 0, run.stderr
    growths = {line.split()[0]: int(line.split()[1]) for line in run.stdout.splitlines()}
    assert growths.keys() == {*opened, *written}
    assert max(growths.values()) <= 5 * 2**20, growths


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of resident memory is Linux only")
def test_what_is_learnt_of_wide_rows_takes_no_more_room_than_a_few_of_them() -> None:
    narrow = Points(torch.randint(0, 100, (400, 12288)).to(torch.int8))
    (low, high), growth = with_peak_growth(lambda: Reader().column_ends(narrow))
    assert torch.equal(low, narrow.values.amin(0).double())
    assert torch.equal(high, narrow.values.amax(0).double())
    assert growth < 24 << 20  # the ends of every row would take 75 MiB
    wide = Points(torch.randint(0, 100, (127, 12288)) / 4)
    step, growth = with_peak_growth(lambda: find_grid(wide, 100.0, Reader()))
    assert step == 0.25
    assert growth < 28 << 20  # 38 where the sample was looked at as a whole
