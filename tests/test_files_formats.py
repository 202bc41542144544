"""Every format gives back what was written, reads what other tools write, and refuses damage in one line."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fresh_process
from janelia_core.extras import MissingExtraError
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.cast import cast
from janelia_core.files.formats.contract import InMemory
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.formats.registry import format_named, save_vectors
from janelia_core.files.formats.safetensors_file import write_safetensors
from janelia_core.files.formats.tiles import in_rows
from janelia_core.files.inputs.input import Input, open_vectors
from janelia_core.suffixes import FORMATS

REAL = {
    "npy": torch.float64,
    "npz": torch.float16,
    "fvecs": torch.float32,
    "bvecs": torch.uint8,
    "ivecs": torch.int32,
    "fbin": torch.float32,
    "u8bin": torch.uint8,
    "i8bin": torch.int8,
    "ibin": torch.int32,
    "bin": torch.float32,
    "hdf5": torch.float32,
    "pt": torch.bfloat16,
    "safetensors": torch.bfloat16,
    "parquet": torch.float32,
    "arrow": torch.float32,
    "csv": torch.float64,
}


def values(dtype: torch.dtype, n: int = 37, d: int = 5) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return (torch.rand(n, d, generator=g, dtype=torch.float64) * 100).to(dtype)


def test_every_format_is_tested() -> None:
    assert set(REAL) == set(FORMATS)


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_written_is_read_back_exactly_in_blocks_and_by_number(format: str, tmp_path: Path) -> None:
    written = values(REAL[format])
    save_vectors(tmp_path / f"a.{format}", written)
    with open_vectors(tmp_path / f"a.{format}") as file:
        assert (file.shape, file.dtype) == ((37, 5), written.dtype)
        blocks = [file.read(0, 0), file.read(0, 10), file.read(10, 36), file.read(36, 37)]
        assert torch.equal(torch.cat(blocks), written)
        assert file.bytes_read == 37 * file.row_bytes
        numbers = torch.tensor([[36, 0], [5, 36]])
        assert torch.equal(file.take(numbers), written[numbers])
        with pytest.raises(IndexError, match="rows 30:38 are not among the 37"):
            file.read(30, 38)


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", ">i2", "<u2", "<u4", "<i8", ">u8", "|u1", "|i1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_byte_order_and_layout(dtype: str, order: str, tmp_path: Path) -> None:
    array = np.array(np.arange(60).reshape(12, 5), dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    with open_vectors(tmp_path / "a.npy") as file:
        assert file.read(0, 12).tolist() == array.tolist()


SHAPES = [(37, 5), (5, 37), (16, 16), (400, 3), (1, 9), (9, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_columns_are_put_in_rows_within_any_memory(shape: tuple[int, int], tmp_path: Path) -> None:
    array = np.arange(shape[0] * shape[1], dtype=">i4").reshape(shape)
    np.ascontiguousarray(array.T).tofile(tmp_path / "columns")
    for memory in (1, 64, 1000, 1 << 20):
        columns = RawVectors(tmp_path / "columns", 0, *shape[::-1], ">i4")
        with in_rows(columns, memory) as file:
            assert np.array_equal(file.read(0, file.n).numpy(), array), memory


@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_in_column_order_are_read_in_every_format_that_has_them(shape: tuple[int, int], tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(shape[0] * shape[1], dtype="f8").reshape(shape))
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "stored.npz", array)
    np.savez_compressed(tmp_path / "packed.npz", array)
    torch.save(torch.from_numpy(array), tmp_path / "a.pt")
    for path in tmp_path.iterdir():
        with open_vectors(path) as file:
            assert np.array_equal(file.read(0, file.n).numpy(), array), path.name


def test_rows_are_taken_alike_whether_they_are_near_each_other_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = values(torch.float64, 500, 4)
    save_vectors(tmp_path / "a.npy", written)
    numbers = torch.cat([torch.arange(0, 100, 3), torch.arange(140, 400, 90), torch.tensor([499, 7, 498])])
    for window in (1 << 10, 1 << 18):  # of 32 rows; of all
        monkeypatch.setattr("janelia_core.files.formats.contract._WINDOW", window)
        monkeypatch.setattr("janelia_core.files.formats.contract._NEAR", 128)
        with open_vectors(tmp_path / "a.npy") as file, cast(file, "float32") as rounded:
            assert torch.equal(file.take(numbers), written[numbers])
            read = file.bytes_taken
            assert len(numbers) * 32 < read < 500 * 32 or window == 1 << 18
            assert torch.equal(rounded.take(numbers), written[numbers].float())
            assert rounded.bytes_taken == file.bytes_taken - read
            assert file.take(numbers[:0]).shape == (0, 4)
            with pytest.raises(IndexError, match="row 500 is not among the 500"):
                file.take(torch.tensor([3, 500]))


def test_texmex_and_bigann_files_as_their_specifications_say(tmp_path: Path) -> None:
    rows = [[1.5, -2.0], [3.0, 4.25], [0.0, 9.0]]
    (tmp_path / "a.fvecs").write_bytes(b"".join(struct.pack("<i2f", 2, *row) for row in rows))
    (tmp_path / "a.bvecs").write_bytes(b"".join(struct.pack("<i3B", 3, *row) for row in [(1, 2, 255), (4, 5, 6)]))
    (tmp_path / "a.fbin").write_bytes(struct.pack("<II6f", 3, 2, *itertools.chain(*rows)))
    (tmp_path / "a.i8bin").write_bytes(struct.pack("<II4b", 2, 2, -128, 127, 0, 1))
    read = {path.name: open_vectors(path).read(0, 2).tolist() for path in tmp_path.iterdir()}
    assert read == {
        "a.fvecs": rows[:2],
        "a.bvecs": [[1, 2, 255], [4, 5, 6]],
        "a.fbin": rows[:2],
        "a.i8bin": [[-128, 127], [0, 1]],
    }


def test_a_bigann_ground_truth_holds_neighbours_and_distances(tmp_path: Path) -> None:
    path = tmp_path / "truth.ibin"
    path.write_bytes(struct.pack("<II4i4f", 2, 2, 7, 8, 9, 10, 0.5, 1.5, 2.5, 3.5))
    assert open_vectors(path).read(0, 2).tolist() == [[7, 8], [9, 10]]
    assert open_vectors(path, role="distances").read(0, 2).tolist() == [[0.5, 1.5], [2.5, 3.5]]
    assert open_vectors(f"{path}::distances").read(1, 2).tolist() == [[2.5, 3.5]]


def test_hdf5_of_ann_benchmarks(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "glove.hdf5"
    with h5py.File(path, "w") as file:
        file["train"], file["test"] = np.eye(3, dtype="f4"), np.ones((2, 3), dtype="f4")
        file.create_dataset("neighbors", data=np.array([[0, 1], [2, 1]]), chunks=(1, 2), compression="gzip")
        file["distances"] = np.zeros((2, 2), dtype="f4")
        file.attrs["distance"] = "euclidean"
    shapes = {role: open_vectors(path, role=role).shape for role in ("centres", "queries", "indices", "distances")}
    assert shapes == {"centres": (3, 3), "queries": (2, 3), "indices": (2, 2), "distances": (2, 2)}
    assert open_vectors(path, role="indices").read(1, 2).tolist() == [[2, 1]]
    with pytest.raises(VectorFileError, match=r"4 arrays, say which.*::NAME.*distances, neighbors, test, train"):
        open_vectors(path)


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"chunks": (50, 7)},
        {"chunks": (1, 3), "compression": "gzip"},
        {"chunks": (50, 1), "compression": "lzf", "shuffle": True},
        {"chunks": (8, 7), "fletcher32": True},
    ],
)
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "compact"])
def test_hdf5_datasets_of_any_layout(made: dict[str, object], dtype: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    array = np.arange(350).reshape(50, 7).astype("f4" if dtype == "compact" else dtype)
    with h5py.File(tmp_path / "a.hdf5", "w", userblock_size=512) as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        if dtype == "compact":
            space = h5py.h5s.create_simple(array.shape)
            h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F32LE, space, plist).write(h5py.h5s.ALL, h5py.h5s.ALL, array)
        else:
            file.create_dataset("a", data=array, **made)
    for memory in (1 << 16, 1 << 22):
        with Input(tmp_path / "a.hdf5").opened("", memory, memory) as rows:
            assert rows.dtype == torch.from_numpy(array.astype(array.dtype.newbyteorder("="))).dtype
            assert np.array_equal(rows.read(0, 50).numpy(), array)


def test_npz_stored_and_compressed(tmp_path: Path) -> None:
    a, b = np.arange(12.0).reshape(4, 3), np.ones((2, 2), dtype="u1")
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", a=a, b=b)
        assert open_vectors(f"{tmp_path}/a.npz::a").read(1, 4).tolist() == a[1:].tolist()
        assert open_vectors(f"{tmp_path}/a.npz::b").dtype == torch.uint8


def test_a_pt_file_of_one_strided_tensor(tmp_path: Path) -> None:
    whole = values(torch.bfloat16, 40, 8)
    views = [whole[::2, 1:6], whole[3:30], whole[:, ::3], whole.t(), whole.t()[1:6, ::2], whole[4:5], whole[:, 2:3]]
    views += [whole[:0], whole[2].expand(3, 8), torch.nn.Parameter(whole[1:])]
    for i, view in enumerate(views):
        torch.save({"else": torch.ones(3), "nested": [{"a": torch.ones(7)}], "vectors": view}, tmp_path / "a.pt")
        with open_vectors(tmp_path / "a.pt") as file:
            assert torch.equal(file.read(0, file.n), view), i


def test_a_pt_file_that_repeats_its_numbers_is_refused(tmp_path: Path) -> None:
    torch.save(torch.ones(1, 4).expand(1 << 40, 4), tmp_path / "a.pt")
    with pytest.raises(VectorFileError, match=r"shape \(1099511627776, 4\), but it stores 4 numbers"):
        open_vectors(tmp_path / "a.pt")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.uint16])
@pytest.mark.parametrize("mmap", [False, True])
def test_a_pt_file_written_block_by_block_is_what_torch_loads(dtype: torch.dtype, mmap: bool, tmp_path: Path) -> None:
    written = values(dtype, 7, 3)
    save_vectors(tmp_path / "a.pt", written)
    found = torch.load(tmp_path / "a.pt", weights_only=True, mmap=mmap)["vectors"]
    assert (found.dtype, found.is_contiguous(), found.data_ptr() % 64) == (dtype, True, 0)
    assert torch.equal(found, written)
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.testzip() is None


def test_parquet_of_numeric_columns_and_of_lists(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"x": [1.0, 2.0], "y": arrow.array([3, 4], arrow.int32())}), path)
    assert open_vectors(path).read(0, 2).tolist() == [[1.0, 3.0], [2.0, 4.0]]
    parquet.write_table(arrow.table({"id": [1, 2], "v": [[1.5, 2.5], [3.5, 4.5]]}), path)
    assert open_vectors(path).read(0, 2).tolist() == [[1.5, 2.5], [3.5, 4.5]]
    for column, complaint in [([[1.0], [2.0, 3.0]], "different lengths"), ([[1.0], None], "misses values")]:
        parquet.write_table(arrow.table({"v": column}), path)
        with pytest.raises(VectorFileError, match=complaint):
            open_vectors(path)
    parquet.write_table(arrow.table({"x": [0.5], "y": [2**60 + 1]}), path)
    with pytest.raises(VectorFileError, match="cannot hold"):
        open_vectors(path)


@pytest.mark.parametrize(
    "text", ["1,2\n3,4.5\n", "a,b\n1,2\n\n3,4.5", "1\t2\n3\t4.5\n", " 1 2\r\n3   4.5\r\n", "﻿x;y\n1;2\n3;4.5"]
)
def test_csv_with_and_without_names(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    assert open_vectors(tmp_path / "a.csv").read(0, 2).tolist() == [[1.0, 2.0], [3.0, 4.5]]


def npy(header: dict[str, object], body: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + body


HUGE = {"descr": "<f4", "fortran_order": False, "shape": (1 << 62, 1 << 62)}
PICKLED = {"descr": "|O", "fortran_order": False, "shape": (1, 1)}
SAFE_HUGE = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40, 4], "data_offsets": [0, 1 << 44]}}).encode()


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        *[(f"a.{format}", b"", rf"a\.{format}") for format in FORMATS],
        ("a.npy", npy(HUGE, b"1234"), "should have"),
        ("a.npy", npy(PICKLED, b"1234"), "object"),
        ("a.npy", npy(HUGE | {"shape": (4,)}, b"1" * 16), r"shape \(4,\)"),
        ("a.npy", npy(HUGE | {"shape": (2, 2)}, b"1" * 15), "at byte 143: should have 144 bytes.*has 143"),
        ("a.npy", npy(HUGE | {"shape": (2, 0)}, b""), "0 columns"),
        ("a.npy", npy(HUGE | {"shape": (1, 1), "descr": "<c8"}, b"1" * 8), "complex"),
        ("a.fvecs", struct.pack("<i", -4) + b"0" * 16, "-4 columns"),
        ("a.fvecs", struct.pack("<i", 2**31 - 1), "2147483647 columns"),
        ("a.fvecs", struct.pack("<i2f", 2, 1, 2) + b"123", "at byte 12: ends within a row"),
        ("a.fvecs", struct.pack("<i2fi2f", 2, 1, 2, 3, 1, 2), "at byte 12: row 1 says that it has 3 columns"),
        ("a.fbin", struct.pack("<II", 2**32 - 1, 2**32 - 1), "should have"),
        ("a.u8bin", struct.pack("<II", 2, 2) + b"12345", "should have 12 bytes.*has 13"),
        ("a.safetensors", struct.pack("<Q", len(SAFE_HUGE)) + SAFE_HUGE, "no sound safetensors"),
        ("a.safetensors", struct.pack("<Q", 1 << 60), "no sound safetensors"),
        ("a.pt", b"\x80\x02cposix\nsystem\nX\x04\0\0\0trueq\0\x85R.", "weights_only"),
        ("a.csv", b"1,2\n3\n", "different lengths|number of columns"),
        ("a.csv", b"1,2\n3,x\n", "at byte 4: .*x"),
        ("a.csv", b"\xff\xfe1,2\n", "at byte 0: is no text"),
        ("a.xyz", b"1", "no format that is known by 'xyz'"),
    ],
)
def test_damage_is_an_error_of_one_line_that_names_the_file(
    name: str, content: bytes, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VectorFileError, match=complaint) as error, open_vectors(tmp_path / name) as file:
        file.read(0, file.n)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy(HUGE | {"shape": (1 << 44, 4)}, b"\0" * 100))
    with pytest.raises(VectorFileError, match="should have 281474976710784 bytes"):
        open_vectors(tmp_path / "a.npz")


def seeds(format: str, folder: Path) -> bytes:
    """Return a sound file of a format, for damage."""
    path = folder / f"seed.{format}"
    save_vectors(path, values(REAL[format], 4, 3))
    return path.read_bytes()


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_give_rows_or_a_clean_error(format: str, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / f"a.{format}"
    content = bytearray(seeds(format, tmp_path))
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    else:
        content = bytearray(data.draw(st.binary(max_size=200)))
    path.write_bytes(content)
    with contextlib.suppress(VectorFileError), open_vectors(path) as file:
        assert file.n * file.d * file.dtype.itemsize <= 1000 * len(content)
        assert file.read(0, file.n).shape == file.shape


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.hdf5").write_bytes(b"x")
    monkeypatch.setattr("janelia_core.extras.import_module", _missing)
    with pytest.raises(MissingExtraError, match=r"h5py.*pip install 'janelia-core\[files\]'"):
        open_vectors(tmp_path / "a.hdf5")


def _missing(module: str) -> None:
    raise ModuleNotFoundError(f"No module named {module!r}", name=module.partition(".")[0])


def test_a_format_that_cannot_hold_the_values_says_so(tmp_path: Path) -> None:
    with pytest.raises(VectorFileError, match="integers -2147483648 to 2147483647"):
        save_vectors(tmp_path / "a.ivecs", torch.tensor([[2**31]]))
    with pytest.raises(VectorFileError, match="integers 0 to 255"):
        save_vectors(tmp_path / "a.bvecs", torch.tensor([[0.5]]))


@pytest.mark.parametrize("packed", [False, True])
def test_a_npy_header_that_says_it_is_giant_is_not_read(packed: bool, tmp_path: Path) -> None:
    size = 1 << 26
    array = b"\x93NUMPY\x02\x00" + struct.pack("<I", size) + b" " * size
    path = tmp_path / ("a.npz" if packed else "a.npy")
    if packed:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", array)
    else:
        path.write_bytes(array)
    del array
    tracemalloc.start()
    try:
        with pytest.raises(VectorFileError, match=r"has no \.npy header"):
            open_vectors(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


FULL = """
import resource, sys
from janelia_core import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
sys.exit(cli.main(["info", sys.argv[1]]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs limits")
@pytest.mark.parametrize("format", ["npz", "parquet", "csv"])
def test_a_full_disk_for_decoding_is_not_taken_for_a_damaged_file(format: str, tmp_path: Path) -> None:
    if format == "npz":
        np.savez_compressed(tmp_path / "a.npz", vectors=np.zeros((100, 5)))
    else:
        save_vectors(tmp_path / f"a.{format}", torch.zeros(100, 5, dtype=torch.float64))
    run = fresh_process.run(FULL, tmp_path / f"a.{format}", timeout=60)
    assert run.returncode == 2
    assert "cannot be decoded to" in run.stderr
    assert "set TMPDIR" in run.stderr
    assert "sound" not in run.stderr


@pytest.mark.parametrize(
    "suffix", ["npy", "npz", "hdf5", "pt", "safetensors", "parquet", "arrow", "csv", "ibin", "ivecs"]
)
def test_no_format_wants_a_whole_answer_in_memory(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indices = torch.arange(600_000).reshape(-1, 3)
    indices.numpy().tofile(tmp_path / "indices")
    largest = 0
    read = RawVectors.read

    def noted(self: RawVectors, start: int, stop: int, out: torch.Tensor | None = None) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, (stop - start) * self.row_bytes)
        return read(self, start, stop, out)

    with RawVectors(tmp_path / "indices", 0, 200_000, 3, "i8") as rows:
        monkeypatch.setattr(RawVectors, "read", noted)
        format_named(suffix).write(tmp_path / f"a.{suffix}", {"indices": rows})
    assert largest <= 1 << 20
    with open_vectors(tmp_path / f"a.{suffix}", role="indices") as file:
        assert torch.equal(file.read(0, file.n).long(), indices)


def test_safetensors_written_block_by_block_are_what_the_library_reads(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch")
    g = torch.Generator().manual_seed(0)
    dtypes = [torch.bfloat16, torch.int64, torch.uint8, torch.float64, torch.float16]
    arrays = {str(dtype): torch.randint(0, 99, (7, 3), generator=g).to(dtype) for dtype in dtypes}
    write_safetensors(tmp_path / "a.safetensors", {name: InMemory(values) for name, values in arrays.items()})
    found = library.load_file(tmp_path / "a.safetensors")
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        assert found[name].dtype == values.dtype
        assert torch.equal(found[name], values)
