"""Sound small files of every format, to be damaged: written by this package, and as other tools write them."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from janelia_core.files import save_vectors
from janelia_core.suffixes import FORMATS, READ_ONLY

DTYPES = (torch.float32, torch.uint8, torch.int8, torch.int32, torch.float64, torch.bfloat16)
SHAPES = ((7, 3), (1, 1), (40, 12))
WRAPPED: dict[str, Callable[[bytes], bytes]] = {
    "fbin.gz": gzip.compress,
    "fvecs.gz": gzip.compress,
    "csv.gz": gzip.compress,
    "fbin.zst": lambda data: importlib.import_module("zstandard").compress(data),
}
Files = dict[str, bytes]
"""A file, under the empty name, or those of a folder by name."""


def suffixes() -> list[str]:
    """Return what a file's name may end with: formats, and packed ones where the package opens them."""
    return [*FORMATS, *READ_ONLY, *(suffix for suffix in WRAPPED if _opens(suffix))]


def _opens(suffix: str) -> bool:
    from janelia_core.files import open_vectors

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ValueError, OSError):
        path = Path(folder) / f"a.{suffix}"
        path.write_bytes(samples(suffix)[0][""])
        open_vectors(path).close()
        return True
    return False


def samples(suffix: str) -> list[Files]:
    """Return sound files of a format; of one that cannot be written, bytes of no meaning."""
    if suffix in WRAPPED:
        return [{"": WRAPPED[suffix](found[""])} for found in samples(suffix.partition(".")[0])]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (dtype, shape) in enumerate((dtype, shape) for dtype in DTYPES for shape in SHAPES):
            path = Path(folder) / f"{number}.{suffix}"
            values = (torch.arange(shape[0] * shape[1]).reshape(shape) % 120).to(dtype)
            with contextlib.suppress(ValueError, TypeError, KeyError, OSError):  # no dtype fits every format
                save_vectors(path, values)
                found.append(_content(path))
        for make in OTHERS.get(suffix, ()):
            path = Path(folder) / f"other.{suffix}"
            with contextlib.suppress(ImportError):
                make(path)
                found.append(_content(path))
            shutil.rmtree(path, ignore_errors=True)
    return found or [{"": bytes(range(256))}]


def _content(path: Path) -> Files:
    if path.is_dir():
        return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
    return {"": path.read_bytes()}


def _hdf5(path: Path) -> None:
    import h5py

    x = np.arange(120, dtype="f4").reshape(20, 6)
    with h5py.File(path, "w") as file:
        file["train"], file["test"] = x, x[:3]
        file.create_dataset("neighbors", data=np.arange(30).reshape(10, 3), chunks=(4, 2), compression="gzip")
        file["deep/er/distances"] = x
        file["soft"], file["away"] = h5py.SoftLink("/deep/er/distances"), h5py.ExternalLink("/dev/zero", "/x")
        file["loop"], file["deep/back"] = h5py.SoftLink("/loop"), file["deep"]
        file.attrs["distance"] = "angular"


def _hdf5_packed(path: Path) -> None:
    import h5py

    x = np.arange(3000, dtype="f4").reshape(500, 6)
    with h5py.File(path, "w", libver="latest") as file:
        more = {"compression": "lzf", "shuffle": True, "fletcher32": True, "maxshape": (None, 6)}
        file.create_dataset("train", data=x, chunks=(64, 6), **more)
        file.create_dataset("test", data=x[:9], chunks=(4, 3))
        file.attrs["distance"] = np.bytes_("euclidean")


def _hdf5_elsewhere(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("train", (5, 4), "u1", external=[("/etc/hostname", 0, 20)])
        layout = h5py.VirtualLayout((4, 4), "f4", maxshape=(None, 4))
        layout[:2] = h5py.VirtualSource("/dev/zero", "x", (2, 4))
        file.create_virtual_dataset("vectors", layout)
        file["enum"] = np.zeros((3, 2), bool)
        file["never"] = h5py.Empty("f4")
        file.create_dataset("vast", (2**40, 4), "f4", chunks=(1000, 4))


def _npz(path: Path) -> None:
    np.savez_compressed(path, vectors=np.ones((30, 4)), other=np.zeros((3, 3), "i4"))


def _npy(path: Path) -> None:
    np.save(path, np.asfortranarray(np.arange(60.0).reshape(12, 5)))


def _pt(path: Path) -> None:
    layer = torch.nn.Linear(4, 3)
    torch.save(
        {"vectors": layer.weight, "epoch": 3, "state": layer.state_dict(), "half": torch.ones(4, 4).half()}, path
    )


def _pt_old(path: Path) -> None:
    torch.save(torch.ones(4, 3), path, _use_new_zipfile_serialization=False)


def _table(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"a": [1.0, 2.0, 3.0], "b": pyarrow.array([3, 4, 5], pyarrow.int16()), "c": [0.5] * 3})
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=True)


def _lists(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"id": ["x", "y"], "v": [[1.0, 2.0], [3.0, 4.0]]})
    pyarrow.parquet.write_table(table, path, version="1.0", compression="snappy")


def _csv(path: Path) -> None:
    path.write_text("x,y,z\n" + "1,2.5,-3e4\n" * 9)


def _zarr(path: Path) -> None:
    """Write an array of version 2, of which a chunk is missing."""
    path.mkdir()
    meta = {"zarr_format": 2, "shape": (7, 3), "chunks": (3, 2), "dtype": "<f4", "fill_value": 0, "order": "C"}
    (path / ".zarray").write_text(json.dumps(meta | {"compressor": {"id": "zlib", "level": 1}, "filters": None}))
    for name in ("0.0", "0.1", "1.0", "2.1"):
        (path / name).write_bytes(zlib.compress(np.arange(6, dtype="<f4").tobytes()))


def _zarr_by_zarr(path: Path) -> None:
    zarr = importlib.import_module("zarr")
    shutil.rmtree(path, ignore_errors=True)
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("vectors", shape=(7, 3), dtype="f4", chunks=(4, 3))[:] = np.ones((7, 3), "f4")


def _raw(path: Path) -> None:
    path.write_bytes(np.arange(30, dtype="f4").tobytes())


OTHERS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "hdf5": (_hdf5, _hdf5, _hdf5_packed, _hdf5_elsewhere),
    "npz": (_npz,),
    "npy": (_npy,),
    "pt": (_pt, _pt_old),
    "parquet": (_table, _lists),
    "csv": (_csv,),
    "raw": (_raw,),
    "zarr": (_zarr, _zarr, _zarr_by_zarr),
}
