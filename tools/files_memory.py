"""How much memory files take, format by format: read by a search, looked through, written as an answer.

`python tools/files_memory.py --max-memory 32MiB` makes files of several times that memory, with rows of 3072 and of
12288 numbers, and works on each in a process of its own, which has done the same once before. It prints by
how much resident memory grew meanwhile and how long it took, and ends with 1 where that is more than 16 MiB above
max_memory. Linux only.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

import fresh_process  # noqa: E402
from janelia_core.files import save_vectors  # noqa: E402
from janelia_core.files.layout import MEBIBYTE  # noqa: E402
from janelia_core.sizes import parse_bytes  # noqa: E402
from janelia_core.suffixes import FORMATS  # noqa: E402

SPARE = 16 * MEBIBYTE
TIMES = 4  # files are so many times the memory
INTEGERS = {"bvecs": torch.uint8, "u8bin": torch.uint8, "i8bin": torch.int8, "ivecs": torch.int32, "ibin": torch.int32}
TEXT = 5  # numbers of a .csv take about so many times the room: files have fewer rows, and are large all the same

BEGIN = """
import sys, time
from pathlib import Path
import torch
from janelia_core.demo.resident_memory import with_peak_growth
from janelia_core.files import info_file, save_vectors, search_files
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.formats.registry import format_named

folder, suffix, memory, dtype = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] or None
torch.set_num_threads(1)
"""
END = """
call()  # libraries, kernels and their one-off buffers come first
start = time.perf_counter()
growth = with_peak_growth(call)[1]
print(growth, time.perf_counter() - start)
"""
SEARCH = """
def call():
    queries, out = folder / "x.npy", folder / "o.npz"
    search_files(folder / f"c.{suffix}", queries, k=10, out=out, max_memory=memory, dtype=dtype)
"""
INFO = """
def call():
    info_file(folder / f"c.{suffix}", max_memory=memory)
"""
WRITE = """
def call():
    n, d = map(int, (folder / "shape").read_text().split())
    format = format_named(suffix)
    vectors = {"vectors": "f4" if format.distances else "u1"}
    numbers = {"indices": "i8", "distances": "f4"} if format.index_bits else vectors
    rows = {name: RawVectors(folder / "rows", 0, n, d, number) for name, number in numbers.items()}
    format.write(folder / "out", rows)
"""
PROGRAMS = {name: BEGIN + does + END for name, does in (("search", SEARCH), ("info", INFO), ("write", WRITE))}


class Case(NamedTuple):
    """A way to store vectors.

    Attributes:
        name: What it is called.
        suffix: Of its files.
        save: (path, values) -> the file.
        dtype: `--dtype` of the search.
    """

    name: str
    suffix: str
    save: Callable[[Path, Tensor], object]
    dtype: str = ""


def cases() -> list[Case]:
    """Return every format as it is written here, and as other tools write it."""
    from h5py import File

    def saved(path: Path, values: Tensor) -> None:
        save_vectors(path, values.to(INTEGERS.get(path.suffix[1:], torch.float32)))

    def hdf5(**made: object) -> Callable[[Path, Tensor], object]:
        def save(path: Path, values: Tensor) -> None:
            with File(path, "w") as file:
                file.create_dataset("vectors", data=values.numpy(), **made)

        return save

    def zarr(path: Path, values: Tensor) -> None:
        (n, d), (rows, wide) = values.shape, (64, 1024)
        path.mkdir()
        told = {"zarr_format": 2, "shape": [n, d], "chunks": [rows, wide], "dtype": "<f4", "order": "C"}
        none = {"compressor": {"id": "zlib", "level": 1}, "filters": None, "fill_value": 0}
        (path / ".zarray").write_text(json.dumps(told | none))
        padded = torch.nn.functional.pad(values, (0, -d % wide, 0, -n % rows))
        for i, j in itertools.product(range(-(-n // rows)), range(-(-d // wide))):
            chunk = padded[i * rows :, j * wide :][:rows, :wide]
            (path / f"{i}.{j}").write_bytes(zlib.compress(chunk.contiguous().numpy().tobytes(), 1))

    def packed(path: Path, values: Tensor) -> None:
        saved(path.with_suffix(""), values)
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes(), 1))

    def columns(values: Tensor) -> np.ndarray:
        return np.asfortranarray(values.numpy())

    return [
        *(Case(suffix, suffix, saved) for suffix in FORMATS),
        Case("npy by columns", "npy", lambda path, values: np.save(path, columns(values))),
        Case("npz packed", "npz", lambda path, values: np.savez_compressed(path, vectors=values.numpy())),
        Case("npz packed, by columns", "npz", lambda path, values: np.savez_compressed(path, columns(values))),
        Case("hdf5 chunks of h5py", "hdf5", hdf5(chunks=True, compression="gzip", compression_opts=1)),
        Case("hdf5 high chunks", "hdf5", hdf5(chunks=(512, 16), compression="lzf")),
        Case("hdf5 wide chunks", "hdf5", hdf5(chunks=(64, 3072), compression="gzip", compression_opts=1)),
        Case("zarr chunks", "zarr", zarr),
        Case("fvecs.gz", "fvecs.gz", packed),
        Case("pt by columns", "pt", lambda path, values: torch.save(values.t().contiguous().t(), path)),
        Case("pt with gaps", "pt", lambda path, values: torch.save(values[:, 1:], path)),
        Case("fvecs as float64", "fvecs", saved, "float64"),
        Case("pt as float16", "pt", saved, "float16"),
    ]


def main() -> int:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-memory", type=parse_bytes, default=32 * MEBIBYTE)
    parser.add_argument("--columns", type=int, nargs="+", default=[3072, 12288])
    parser.add_argument("--only", nargs="+", help="names of cases; default: all")
    parser.add_argument("--does", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    options = parser.parse_args()
    worst = 0
    print(
        f"{'':24} {'columns':>7} {'does':>6} {'MiB':>6} {'s':>6}   (max_memory {options.max_memory / MEBIBYTE:g} MiB)"
    )
    for case in cases():
        if options.only and case.name not in options.only:
            continue
        for d in options.columns:
            for does in options.does:
                if does != "write" or case.name == case.suffix:
                    growth, seconds = measured(case, d, does, options.max_memory)
                    worst = max(worst, growth)
                    late = "   too much" if growth > options.max_memory + SPARE else ""
                    print(f"{case.name:24} {d:7} {does:>6} {growth / MEBIBYTE:6.1f} {seconds:6.2f}{late}", flush=True)
    return int(worst > options.max_memory + SPARE)


def measured(case: Case, d: int, does: str, memory: int) -> tuple[int, float]:
    """Return by how many bytes resident memory grew, and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        n = TIMES * memory // (4 * d) // (TEXT if case.suffix == "csv" else 1)
        numbers = torch.randint(0, 100, (n, d), generator=torch.Generator().manual_seed(0))
        if does == "write":
            (path / "shape").write_text(f"{n // 2} {d}")
            numbers[: n // 2].numpy().tofile(path / "rows")
        else:
            case.save(path / f"c.{case.suffix}", numbers.float())
            np.save(path / "x.npy", numbers[:30, case.name == "pt with gaps" :].float().numpy())
        run = fresh_process.run(PROGRAMS[does], folder, case.suffix, memory, case.dtype)
        if run.returncode:
            print(case.name, d, does, run.stderr.strip().splitlines()[-1])
            return 0, 0.0
        growth, seconds = map(float, run.stdout.split())
        return int(growth), seconds


if __name__ == "__main__":
    sys.exit(main())
