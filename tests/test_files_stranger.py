"""A stranger's file reads no other file, runs no code, takes no more than its budget, and is refused in one line."""

from __future__ import annotations

import importlib
import io
import pickle
import struct
import sys
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from janelia_core.files import VectorFileError, open_vectors
from janelia_core.files.errors import error_line
from janelia_core.files.formats.hdf5.source import Source
from janelia_core.printable import MOST, one_line, printable
from janelia_core.suffixes import FORMATS

h5py = pytest.importorskip("h5py")
sys.path.append(str(Path(__file__).parents[1] / "tools"))
cases = importlib.import_module("fuzz_file_cases")
X = np.arange(12, dtype="f4").reshape(4, 3)


def hdf5(folder: Path, fill: Callable[[Any], object], **more: Any) -> Path:
    path = folder / "a.hdf5"
    with h5py.File(path, "w", **more) as file:
        fill(file)
    return path


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4, 3), "f4", maxshape=(None, 3))
    layout[:2] = h5py.VirtualSource("other.hdf5", "x", (2, 3))
    file.create_virtual_dataset("train", layout)


def _external(file: Any) -> None:
    file.create_dataset("train", (5, 4), "u1", external=[("/etc/hostname", 0, 20)])


def _link_to_link(file: Any) -> None:
    file["train"], file["away"] = h5py.SoftLink("/away/x"), h5py.ExternalLink("other.hdf5", "x")


def _unknown_filter(file: Any) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2, 3))
    plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))  # Zstandard, of a plugin
    h5py.h5d.create(file.id, b"train", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4, 3)), plist)


@pytest.mark.parametrize(
    ("fill", "complaint"),
    [
        (_external, "train keeps its numbers in another file"),
        (_virtual, "train is a virtual dataset"),
        (lambda file: file.update(train=h5py.ExternalLink("other.hdf5", "x")), "train is a link out of this file"),
        (_link_to_link, "train is a link out of this file"),
        (lambda file: file.update(train=h5py.SoftLink("/train")), "train is a link to a link"),
        (_unknown_filter, "packed with filter 32015, and no code is loaded"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_an_hdf5_file_reads_no_other_file_and_loads_no_code(
    fill: Callable[[Any], None], complaint: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with h5py.File("other.hdf5", "w") as other:
        other["x"] = X
    path = hdf5(tmp_path, fill)
    with pytest.raises(VectorFileError, match=complaint):
        open_vectors(f"{path}::train" if named else path, role="centres")


def test_links_within_an_hdf5_file_are_followed_and_loops_of_groups_end(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["deep/x"], file["train"] = X, h5py.SoftLink("deep/x")
        file["deep/up"] = file["/"]

    path = hdf5(tmp_path, fill)
    for name, role in [(f"{path}::train", ""), (f"{path}::deep/up/deep/x", ""), (path, "centres"), (path, "queries")]:
        with open_vectors(name, role=role) as file:
            assert file.read(0, 4).tolist() == X.tolist()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (X > 3, "names of numbers"),
        (np.zeros((2, 2), [("a", "f4")]), "records"),
        (np.full((2, 2), b"abc"), "text"),
        (X[0], r"shape \(3,\)"),
    ],
)
def test_an_hdf5_dataset_of_anything_but_rows_of_numbers_is_told_by_what_it_holds(
    values: np.ndarray, said: str, tmp_path: Path
) -> None:
    path = hdf5(tmp_path, lambda file: file.update(x=values))
    with pytest.raises(VectorFileError, match=f"x h.*{said}"):
        open_vectors(f"{path}::x")


def test_an_hdf5_file_after_a_block_of_its_user_is_read_where_it_stands(tmp_path: Path) -> None:
    path = hdf5(tmp_path, lambda file: file.update(train=X), userblock_size=512)
    with open_vectors(path) as file:
        assert file.read(0, 4).tolist() == X.tolist()


def test_an_hdf5_dataset_that_was_never_written_is_no_vectors_of_zeros(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file.create_dataset("vast", (2**60, 4), "f4", chunks=(1000, 4))
        file.create_dataset("part", (1000, 4), "f4", chunks=(10, 4), compression="gzip")[:10] = 1
        file.create_dataset("wide", (10**6, 1000), "f4", chunks=(10**5, 1000))
        file.create_dataset("plain", (10**6, 4), "f4")

    path = hdf5(tmp_path, fill)
    for name, said in {
        "vast": "not hold as much",
        "plain": "not hold as much",
        "wide": "h5repack -l wide:CHUNK",
        "part": "only 1 of its 100 chunks",
    }.items():
        with pytest.raises(VectorFileError, match=said):
            open_vectors(f"{path}::{name}")


def test_opening_an_hdf5_file_looks_at_few_of_its_objects_and_bytes(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        for number in range(5000):
            file[f"link{number}"] = h5py.SoftLink("/nowhere")
        file["train"] = X
        file.attrs["big"] = np.zeros(10**6)

    path = hdf5(tmp_path, fill, libver="latest")
    began = time.process_time()
    with pytest.raises(VectorFileError, match="holds more than 500 objects; say which"):
        open_vectors(path)
    with pytest.raises(VectorFileError, match="holds no array 'nope'"):
        open_vectors(f"{path}::nope")
    with open_vectors(path, role="centres") as file:
        assert file.read(1, 2).tolist() == X[1:2].tolist()
    assert time.process_time() - began < 1


def test_what_the_hdf5_library_reads_is_counted_until_a_file_is_open(tmp_path: Path) -> None:
    path = hdf5(tmp_path, lambda file: file.update(train=X))
    with Source(path, 4096) as source, pytest.raises(ValueError, match="more than 4096 bytes of its structure"):
        h5py.File(source, "r").visit(print)
    with Source(path, 4096) as source:
        source.opened()
        assert [source.readinto(bytearray(8)) for _ in range(9)] == [8] * 9
        with pytest.raises(ValueError, match="more than 4096 bytes"):
            source.readinto(bytearray(4097))


def test_a_heap_of_texts_that_hdf5_would_go_over_for_ever_is_refused(tmp_path: Path) -> None:
    path = hdf5(tmp_path, lambda file: file.attrs.update(distance="angular"))
    data = path.read_bytes()
    heap = data.index(b"GCOL")
    free = heap + 16 + 16 + 8  # after its header, and the header of its one text, and that
    assert int.from_bytes(data[free + 8 : free + 16], "little") == 4096 - 40
    with Source(path, 1 << 20) as source:
        source.seek(heap)
        assert source.readinto(bytearray(4096)) == 4096
    for size in (4096, 24):  # at once, or piece by piece
        path.write_bytes(data[: free + 8] + bytes(8) + data[free + 16 :])
        with Source(path, 1 << 20) as source:
            source.seek(heap)
            with pytest.raises(ValueError, match=f"heap at byte {heap} is damaged"):
                [source.readinto(bytearray(size)) for _ in range(3)]


@pytest.mark.parametrize(
    ("said", "meant"),
    [("angular", "cosine"), (np.bytes_("euclidean"), "euclidean"), ("hamming", None), (3, None), ("x" * 9000, None)],
)
def test_the_distance_that_an_ann_benchmarks_file_names_is_its_metric(
    said: Any, meant: str | None, tmp_path: Path
) -> None:
    def fill(file: Any) -> None:
        file["train"] = X
        file.attrs["distance"] = said

    with open_vectors(hdf5(tmp_path, fill), role="centres") as file:
        assert file.metric == meant


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (1 << 33,)


def test_a_pt_file_makes_torch_build_nothing_but_stored_tensors(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    program = {
        "builtins bytearray": pickle.dumps(_Evil(), protocol=2).replace(b"__builtin__", b"builtins"),
        "more than 100000 operations": b"\x80\2" + b"]" * 200_000 + b".",
        "never writes": b"\x80\2S'\\q'\n.",
        "protocol 4": b"\x80\4.",
        "bytes; ": b"\x80\2" + b"]" * 5_000_000 + b".",
    }
    for complaint, data in program.items():
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", data)
        with pytest.raises(VectorFileError, match=complaint):
            open_vectors(path)
    torch.save(torch.ones(4, 3), path)
    content = {info.filename: zipfile.ZipFile(path).read(info) for info in zipfile.ZipFile(path).infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # which numbers are read from as they are
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(VectorFileError, match="is packed"):
        open_vectors(path)


@pytest.mark.parametrize("format", ["npz", "pt"])
def test_a_zip_with_a_vast_list_of_members_is_not_listed(format: str, tmp_path: Path) -> None:
    path, entry = tmp_path / f"a.{format}", struct.pack("<4s42x", b"PK\1\2")
    count = 100_000
    end = struct.pack("<4s4xHHIIH", b"PK\5\6", 65535, 65535, count * len(entry), 0, 0)
    path.write_bytes(entry * count + end)
    tracemalloc.start()
    try:
        with pytest.raises(VectorFileError, match="lists its members in 4600000 bytes"):
            open_vectors(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_members_that_unpack_without_bounds_are_refused(packing: int, tmp_path: Path) -> None:
    data = io.BytesIO()
    np.save(data, X)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", packing) as archive:
        archive.writestr("vectors.npy", data.getvalue())
    with pytest.raises(VectorFileError, match=r"vectors\.npy is packed by method"):
        open_vectors(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 2L), }\n", True),  # Python 2
        ('{"shape":(2,2),"fortran_order":False,"descr":"<f4"}', True),
        (" {'shape': (2, 2,), 'descr': '=f4' , 'fortran_order': False}   ", True),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)} # x", False),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), 'shape': (2, 2)}", False),
        ("{'descr': '\\<f4', 'fortran_order': False, 'shape': (2, 2)}", False),
        ("{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 2)}", False),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, " + "9" * 5000 + ")}", False),
        ("(" * 60_000, False),
    ],
)
def test_npy_headers_of_any_spelling_are_read_and_none_is_code(text: str, read: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + X.tobytes()[:16])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if read:
            with open_vectors(path) as file:
                assert file.read(0, 2).tolist() == [[0, 1], [2, 3]]
        else:
            with pytest.raises(VectorFileError, match=r"has no \.npy header"):
                open_vectors(path)


def test_a_safetensors_header_is_no_longer_than_its_budget(tmp_path: Path) -> None:
    text = b'{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4],"x":[' + b"[]," * 500_000 + b"0]}}"
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    with pytest.raises(VectorFileError, match="has a header of 1500064 bytes"):
        open_vectors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["a\nb.npy", "\x1b\x07\u202e.npy", "x" * 240 + ".npy", "\udcff.npy", "é.npy"])
def test_an_error_is_one_printable_line_whatever_the_name_of_the_file(name: str, tmp_path: Path) -> None:
    folder = tmp_path / ("y" * 200)
    folder.mkdir()
    (folder / name).write_bytes(b"\x93NUMPY\1\0\xff\xff" + b"\x1b\n\r\0" * 40_000)
    for path in (folder / name, folder / f"no{name[:200]}"):
        with pytest.raises((VectorFileError, FileNotFoundError)) as error:
            open_vectors(path)
        said = str(error.value)
        assert said.isprintable()
        assert len(said) <= 300
        assert said.startswith(str(tmp_path)[:50])
        assert "header: " in said or "no such file" in said
    assert VectorFileError.__reduce__(VectorFileError("a", "b", 3))[1] == ("a", "b", 3)


def test_long_and_unprintable_texts_keep_their_beginning_and_their_end() -> None:
    assert one_line("a\n  b\tc ") == "a b c"
    assert printable("\u202e\0é\udcff") == "\\u202e\\x00é\\xff"
    for text in ("begin" + "x" * 10**6 + "end", "begin" + "\0" * 1000 + "end"):
        said = one_line(text)
        assert (len(said), said[:5], said[-3:], " ... " in said) == (MOST, "begin", "end", True)
    missing = FileNotFoundError(2, "No such file or directory", "a\nb" + "c" * 900)
    assert error_line(missing).endswith("ccc: No such file or directory")
    assert len(error_line(missing)) == MOST
    assert error_line(MemoryError()) == "MemoryError"
    command = f": janelia-knn search {'c' * 900}"
    assert error_line(ValueError(f"begun\n{'d' * 900}{command}")).endswith(f"dd{command}")
    assert len(error_line(ValueError(f"begun{command}\0"))) == MOST


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_of_every_format_keep_the_rules(format: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        watch, fuzz = cases.Watch(None), cases.Fuzz([format], 0)
        broken = [(number, watch.broken(case, cases.written(case, tmp_path))[1]) for number, case in fuzz.first(25)]
    assert [line for line in broken if line[1]] == []


def test_the_fuzz_of_files_sees_what_breaks_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(case: Any, path: Path) -> bool:
        tried.append(np.ones(12 << 20 if case.number == 0 else 1, dtype="f8"))
        if case.number == 1:
            warnings.warn("mind", stacklevel=1)
        if case.number == 2:
            raise KeyError("lost")
        if case.number == 3:
            raise VectorFileError("a", "b").with_traceback(None) from None
        if case.number == 4:
            raise OSError("two\nlines")
        return True

    tried: list[np.ndarray] = []
    monkeypatch.setattr(cases, "opened", bad)
    with warnings.catch_warnings():
        watch, fuzz = cases.Watch(None), cases.Fuzz(["npy"], 0)
        told = [watch.broken(case, tmp_path)[1] for _, case in fuzz.first(6)]
    found = [
        part in line if part else not line
        for part, line in zip(("MiB", "mind", "lost", "", "two", ""), told, strict=True)
    ]
    assert found == [True] * 6


def test_a_long_name_in_a_pt_file_takes_no_time(tmp_path: Path) -> None:
    # torch looks through its own message, which holds the name, for minutes
    path, long = tmp_path / "a.pt", tmp_path / "b.pt"
    torch.save(torch.ones(4, 3), path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(long, "w") as made:
        for name in archive.namelist():
            made.writestr(name, archive.read(name).replace(b"FloatStorage", b"F" + b"2" * 9000 + b"Storage"))
    with pytest.raises(VectorFileError, match=r"needs torch F22.*weights_only does not load"):
        open_vectors(long)
