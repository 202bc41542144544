"""What callers name: several files as one, folders and patterns, packed files, raw memory, zarr, any name there is."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core import cli
from janelia_core.files import Input, info_file, open_vectors, plan_files, radius_files, save_vectors, search_files
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats import packed
from janelia_core.files.inputs import several
from janelia_core.files.inputs.which_files import files_of, natural
from janelia_core.files.verify import verify_files
from janelia_core.suffixes import FORMATS


def spread(n: int, d: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def parts(folder: Path, suffix: str, sizes: tuple[int, ...] = (7, 1, 20, 12)) -> Tensor:
    """Write parts 1, 2, 10, 11 of one base; return the base."""
    x = spread(sum(sizes))
    for number, rows in zip((1, 2, 10, 11), x.split(list(sizes)), strict=True):
        save_vectors(folder / f"base.{number}.{suffix}", rows)
    return x


# several files as one


@pytest.mark.parametrize("suffix", ["fbin", "fvecs", "npy", "hdf5", "pt", "parquet", "safetensors"])
@pytest.mark.parametrize("open_at_once", [1, 8])
def test_several_files_are_read_as_the_one_that_was_split(
    suffix: str, open_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(several, "_OPEN", open_at_once)
    x = parts(tmp_path, suffix)
    names = [tmp_path / f"base.{number}.{suffix}" for number in (1, 2, 10, 11)]
    for where in (names, tmp_path, tmp_path / f"base.*.{suffix}", f"{tmp_path}/base.[0-9]*.{suffix}"):
        with open_vectors(where) as file:
            assert (file.shape, file.dtype) == ((40, 5), torch.float32)
            assert torch.equal(file.read(0, 40), x)
            assert torch.equal(file.read(6, 29), x[6:29])
            assert file.bytes_read == 63 * file.row_bytes
            numbers = torch.tensor([[39, 7, 0], [7, 8, 27]])
            assert torch.equal(file.take(numbers), x[numbers])
            assert 5 * file.row_bytes <= file.bytes_taken <= 40 * file.row_bytes
            assert file.files == tuple(names)
            with pytest.raises(IndexError, match="row 40 is not among the 40 rows"):
                file.take(torch.tensor([40]))


def test_thousands_of_parts_need_few_open_files(tmp_path: Path) -> None:
    if not os.path.isdir("/dev/fd"):
        pytest.skip("counts open files by their names")
    x = spread(400, 2)
    for number in range(400):
        (tmp_path / f"p{number}.fbin").write_bytes(struct.pack("<II2f", 1, 2, *x[number].tolist()))
    before = len(os.listdir("/dev/fd"))
    with open_vectors(tmp_path) as file:
        assert torch.equal(file.read(0, 400), x)
        assert len(os.listdir("/dev/fd")) - before <= 10
    assert len(os.listdir("/dev/fd")) == before


def test_every_job_takes_several_files_and_gives_the_answer_of_the_one(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    save_vectors(tmp_path / "whole.fbin", parts(folder, "fbin"))
    save_vectors(tmp_path / "q.npy", spread(6, seed=1))
    whole, split, q = str(tmp_path / "whole.fbin"), f"{folder}/base.*.fbin", tmp_path / "q.npy"
    answers = []
    for where in (whole, split):
        out = tmp_path / "out.npz"
        for dtype in (None, "float64"):
            search_files(where, q, k=3, out=out, dtype=dtype)
            answers.append(out.read_bytes())
        assert verify_files(where, q, out).all_right
        radius_files(where, q, radius=2.0, out=tmp_path / "near.npz")
        answers.append((tmp_path / "near.npz").read_bytes())
        answers.append(str(plan_files(where, q, k=3).layout).encode())
        answers.append(str(info_file(where)).partition("\n")[2].rpartition(";")[0].encode())
    assert answers[:5] == answers[5:]


def test_a_search_of_several_files_goes_on_only_while_all_of_them_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("janelia_core.files.question.make_layout", _small)
    parts(tmp_path, "fbin")

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_files(tmp_path / "base.*.fbin", k=3, out=tmp_path / "o.npy", progress=stop)
    last = tmp_path / "base.11.fbin"
    content = last.read_bytes()
    last.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="the centres changed since"):
        search_files(tmp_path / "base.*.fbin", k=3, out=tmp_path / "o.npy", resume=True)


def _small(n_smps: int, n_ctrs: int, k: int, **sizes):  # type: ignore[no-untyped-def]
    from janelia_core.files.layout import Layout

    return Layout(n_smps, n_ctrs, k, "queries", 8, 9, 1 << 24, 1, 1, 0, sizes["but_self"])


def test_an_input_is_not_replaced_by_its_answer_whichever_part_it_is(tmp_path: Path) -> None:
    parts(tmp_path, "npy")
    with pytest.raises(VectorFileError, match="is an input of this search"):
        search_files(tmp_path / "base.*.npy", k=2, out=tmp_path / "base.10.npy")


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        (spread(3, 6), r"b\.npy: has another number of columns \(6\) than .*a\.npy \(5\)"),
        (spread(3).double(), r"b\.npy: has another dtype \(torch.float64\) than .*a\.npy \(torch.float32\)"),
    ],
)
def test_parts_that_do_not_go_together_are_named(second: Tensor, complaint: str, tmp_path: Path) -> None:
    save_vectors(tmp_path / "a.npy", spread(3))
    save_vectors(tmp_path / "b.npy", second)
    with pytest.raises(VectorFileError, match=complaint):
        open_vectors(tmp_path)


def test_numbers_are_ordered_by_value() -> None:
    names = ["p10.npy", "p2.npy", "p02.npy", "p1.npy", "a9b10", "a9b9", "p.npy", "p" + "9" * 5000, "p00"]
    assert sorted(names, key=natural) == [
        "a9b9", "a9b10", "p00", "p1.npy", "p02.npy", "p2.npy", "p10.npy", "p" + "9" * 5000, "p.npy"
    ]  # fmt: skip


# folders and patterns


@pytest.mark.parametrize(
    ("names", "result"),
    [
        (
            [
                "b.npy",
                "a.npy",
                ".x.npy",
                "_SUCCESS",
                "_x.npy",
                "README.md",
                "dataset_info.json",
                "LICENSE",
                "x.npy.md5",
            ],
            2,
        ),
        (["train-00000-of-00002.npy", "train-00001-of-00002.npy", ".gitattributes"], 2),
        ([], "is a folder without vectors"),
        (["README.md"], "is a folder without vectors"),
        (["a.npy", "a.fvecs"], r"holds (npy and fvecs|fvecs and npy); write a pattern"),
        (["a.npy", "a.docx"], "a.docx: has no format that is known by 'docx'"),
        (["a.npy", "more/b.npy"], r"holds folders as well as files \(more\)"),
        (["train-00000-of-00001.npy", "test-00000-of-00001.npy"], r"several meanings \(t.*, t.*\); write a pattern: '"),
        (["base.npy", "query.npy"], "several meanings"),
        (["a.xz"], "is packed by xz"),
        (["train-00000-of-00003.npy", "train-00002-of-00003.npy"], "holds 2 of 3 parts of train"),
    ],
)
def test_a_folder_is_its_vectors_or_an_error_that_says_what_else_it_is(
    names: list[str], result: int | str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_vectors(tmp_path / name, spread(3), "npy")
    if isinstance(result, int):
        assert len(files_of(tmp_path, None, "centres")) == result
        assert open_vectors(tmp_path).n == 3 * result
        return
    with pytest.raises(VectorFileError, match=result):
        open_vectors(tmp_path)


def test_a_pattern_that_meets_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(VectorFileError, match=r"base\.\*\.fbin: meets no file"):
        open_vectors(tmp_path / "base.*.fbin")
    with pytest.raises(ValueError, match="must name at least one file"):
        open_vectors([])


@pytest.mark.parametrize("name", ["a*.npy", "a[1].npy", "a::b.npy", "a b.npy", "-a.npy", "a?.npy"])
def test_a_file_that_is_there_is_that_file_whatever_its_name_means(name: str, tmp_path: Path) -> None:
    save_vectors(tmp_path / "a1.npy", spread(2))
    save_vectors(tmp_path / name, spread(4))
    assert open_vectors(tmp_path / name).n == 4


def test_one_array_of_each_file_is_named_behind_the_pattern(tmp_path: Path) -> None:
    for number in (1, 2):
        np.savez(tmp_path / f"{number}.npz", a=np.full((2, 3), number), b=np.ones((1, 1)))
    assert open_vectors(f"{tmp_path}/*.npz::a").read(0, 4)[:, 0].tolist() == [1, 1, 2, 2]
    assert open_vectors(f"{tmp_path}::a").n == 4


def test_the_command_takes_a_pattern(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts(tmp_path, "fbin")
    assert cli.main(["info", f"{tmp_path}/base.*.fbin"]) == 0
    assert "fbin, 40 x 5, torch.float32" in capsys.readouterr().out


# suffixes


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (
            "a.fbn",
            r"known by 'fbn' \(did you mean fbin\?\); --centres-format or --format \(in Python format\) takes .*zarr",
        ),
        ("a", "has no suffix.*--centres-format"),
        ("a.spmat", "only dense rows are searched; where they fit.*toarray"),
        ("a.fvecs.xz", "is packed by xz; unpack it first"),
        ("a.hdf5.gz", "hdf5 is not read packed; unpack it first"),
        ("a.crop_nb_3", "has no suffix"),
    ],
)
def test_a_suffix_that_is_not_read_says_what_to_do(name: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(VectorFileError, match=complaint):
        open_vectors(tmp_path / name, role="centres")


def bigann(n: int, x: Tensor) -> bytes:
    return struct.pack("<II", n, x.shape[1]) + x.numpy().tobytes()


@pytest.mark.parametrize(
    ("name", "content", "role", "result"),
    [
        ("a.fbin.crop_nb_4", bigann(10**9, spread(4)), "", spread(4)),
        ("a.fbin.crop_nb_4", bigann(4, spread(4)), "", spread(4)),
        ("a.fbin.crop_nb_4", bigann(10**9, spread(5)), "", "should have 88 bytes for its 4 rows"),
        ("a.fbin.crop_nb_4", bigann(3, spread(3)), "", "3 rows by its header, fewer than the 4 of its name"),
        ("a.fbin.crop_nb_x", bigann(4, spread(4)), "", "no format that is known by 'crop_nb_x'"),
        (
            "a.ibin.crop_nb_99",
            bigann(2, torch.tensor([[1, 2], [3, 4]]).int()),
            "",
            torch.tensor([[1, 2], [3, 4]]).int(),
        ),
        ("a.bin", bigann(4, spread(4)), "centres", spread(4)),
        ("a.bin", bigann(2, torch.tensor([[1, 2], [3, 4]]).byte()), "centres", "holds uint8 or int8; say which"),
        ("a.bin", bigann(1, torch.tensor([[1, 2], [3, 4]]).int()), "centres", "is a ground truth by its size"),
        ("a.bin", bigann(1, torch.tensor([[1, 2], [3, 4]]).int()), "indices", torch.tensor([[1, 2]]).int()),
        ("a.bin", bigann(9, spread(2)), "centres", "should have"),
        ("a.bin", b"123", "centres", "ends within its header"),
    ],
)
def test_bin_and_cropped_files_are_what_their_size_agrees_with(
    name: str, content: bytes, role: str, result: Tensor | str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    if isinstance(result, str):
        with pytest.raises(VectorFileError, match=result):
            open_vectors(tmp_path / name, role=role)
    else:
        with open_vectors(tmp_path / name, role=role) as file:
            assert torch.equal(file.read(0, file.n), result)


@pytest.mark.parametrize("name", ["o.npy.gz", "o.csv.zst", "o.fbin.crop_nb_4"])
def test_what_is_written_is_neither_packed_nor_cropped(name: str, tmp_path: Path) -> None:
    save_vectors(tmp_path / "b.npy", spread(4))
    with pytest.raises(VectorFileError, match=r"would not be packed as|no format that is known by 'crop_nb_4'"):
        search_files(tmp_path / "b.npy", k=2, out=tmp_path / name)
    with pytest.raises(VectorFileError, match=r"would not be packed as|no format that is known by 'crop_nb_4'"):
        save_vectors(tmp_path / name, spread(4))


def test_numbers_of_a_bin_are_those_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bigann(2, torch.tensor([[1, 255], [3, 4]]).byte()))
    assert open_vectors(Input(tmp_path / "a.bin", stored="uint8")).read(0, 1).tolist() == [[1, 255]]
    assert open_vectors(Input(tmp_path / "a.bin", stored="int8")).read(0, 1).tolist() == [[1, -1]]
    with pytest.raises(VectorFileError, match=r"one of float32, uint8, int8 as a \.bin, not 'float64'"):
        open_vectors(Input(tmp_path / "a.bin", stored="float64"))


def test_a_bin_is_written_as_vectors_or_as_a_ground_truth(tmp_path: Path) -> None:
    save_vectors(tmp_path / "b.npy", spread(9))
    search_files(tmp_path / "b.npy", k=2, out=tmp_path / "t.bin")
    search_files(tmp_path / "b.npy", k=2, out=tmp_path / "t.ibin")
    assert (tmp_path / "t.bin").read_bytes() == (tmp_path / "t.ibin").read_bytes()


# raw memory


@pytest.mark.parametrize(
    ("shape", "stored", "result"),
    [
        ((None, 3), "float32", 4),
        ((4, 3), "float32", 4),
        ((None, 3), ">f4", 4),
        ((None, 12), "bfloat16", 2),
        ((None, 48), "uint8", 1),
        (None, "float32", r"holds numbers only; say --shape N,D \(in"),
        ((None, 3), None, r"say --stored DTYPE"),
        (None, None, r"say --shape N,D and --stored DTYPE"),
        ((5, 3), "float32", "has 48 bytes: 4 rows of 3 float32, 12 bytes each, not 5"),
        ((None, 5), "float32", "2.4 rows of 5 float32, 20 bytes each, not a whole number"),
        ((None, 3), "float33", "stored must be one of float16, .*got 'float33'"),
        ((None, 0), "float32", "D at least 1"),
    ],
)
def test_raw_memory_is_what_the_caller_says_where_the_size_agrees(
    shape: tuple[int | None, int] | None, stored: str | None, result: int | str, tmp_path: Path
) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(np.arange(12, dtype=stored if stored == ">f4" else "<f4").tobytes())
    if isinstance(result, str):
        with pytest.raises(VectorFileError, match=result):
            open_vectors(Input(path, shape=shape, stored=stored))
        return
    with open_vectors(Input(path, shape=shape, stored=stored)) as file:
        assert file.n == result
        assert stored not in (">f4", "float32") or file.read(1, 2).tolist() == [[3, 4, 5]]


def test_the_dtype_of_a_search_says_what_raw_memory_holds(tmp_path: Path) -> None:
    x = spread(30)
    (tmp_path / "a.f32").write_bytes(x.numpy().tobytes())
    save_vectors(tmp_path / "a.npy", x)
    search_files(Input(tmp_path / "a.f32", shape=(None, 5)), k=2, out=tmp_path / "o.npy", dtype="float32")
    search_files(tmp_path / "a.npy", k=2, out=tmp_path / "p.npy")
    assert (tmp_path / "o.npy").read_bytes() == (tmp_path / "p.npy").read_bytes()
    with pytest.raises(VectorFileError, match="is npy, which says its shape itself"):
        open_vectors(Input(tmp_path / "a.npy", shape=(None, 5)))


def test_raw_memory_of_integers_is_searched_by_the_dtype_that_says_so(tmp_path: Path) -> None:
    x = torch.randint(0, 200, (20, 5), dtype=torch.uint8)
    (tmp_path / "a.raw").write_bytes(x.numpy().tobytes())
    save_vectors(tmp_path / "a.u8bin", x)
    search_files(Input(tmp_path / "a.raw", shape=(None, 5)), k=2, out=tmp_path / "o.npy", dtype="uint8")
    search_files(tmp_path / "a.u8bin", k=2, out=tmp_path / "p.npy", dtype=torch.uint8)
    assert (tmp_path / "o.npy").read_bytes() == (tmp_path / "p.npy").read_bytes()
    with pytest.raises(ValueError, match=r"dtype must be one of float16.*got int8: .*raw memory"):
        search_files(tmp_path / "a.u8bin", k=2, out=tmp_path / "p.npy", dtype="int8")


@pytest.mark.parametrize("name", ["", "::vectors"])
def test_no_name_is_not_the_folder_one_is_in(name: str) -> None:
    with pytest.raises(VectorFileError, match="names no file"):
        open_vectors(name)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that cannot be read is needed")
def test_a_read_that_fails_names_the_file() -> None:
    with pytest.raises(OSError, match="Input/output error") as error:
        open_vectors("/proc/self/mem", "csv")
    assert error.value.filename == "/proc/self/mem"


def test_verify_takes_raw_centres_and_packed_answers_with_their_distances(tmp_path: Path) -> None:
    x = spread(30)
    (tmp_path / "a.raw").write_bytes(x.numpy().tobytes())
    raw = Input(tmp_path / "a.raw", shape=(None, 5))
    search_files(raw, k=2, out=tmp_path / "o.ibin", dtype="float32")
    (tmp_path / "p.ibin.gz").write_bytes(gzip.compress((tmp_path / "o.ibin").read_bytes()))
    found = verify_files(raw, None, tmp_path / "p.ibin.gz", dtype="float32")
    assert found.all_right
    assert found.distances is not None


# packed files


def zstd(data: bytes, **options: object) -> bytes:
    library = pytest.importorskip("zstandard")
    packed: bytes = library.ZstdCompressor(**options).compress(data)
    return packed


PACK = {"gz": gzip.compress, "zst": zstd}


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("suffix", ["fbin", "fvecs", "npy", "csv", "parquet", "pt"])
def test_a_packed_file_is_read_as_what_is_packed(suffix: str, packing: str, tmp_path: Path) -> None:
    x = spread(40).double() if suffix == "csv" else spread(40)
    save_vectors(tmp_path / f"a.{suffix}", x)
    data = (tmp_path / f"a.{suffix}").read_bytes()
    path = tmp_path / f"b.{suffix}.{packing}"
    path.write_bytes(PACK[packing](data[:100]) + PACK[packing](data[100:]))  # in two members, as parallel packers do
    before = set(os.listdir("/tmp"))
    with open_vectors(path) as file:
        assert (file.path, file.files, file.format) == (path, (path,), suffix)
        assert torch.equal(file.read(0, 40), x)
        assert torch.equal(file.take(torch.tensor([3, 39])), x[[3, 39]])
        assert not [name for name in set(os.listdir("/tmp")) - before if "tmp" in name and "pytest" not in name]
    with open_vectors([path, path]) as both:
        assert torch.equal(both.read(20, 60), torch.cat([x[20:], x[:20]]))


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lambda whole: whole[:-9], r"is no sound \.(gz|zst) file"),
        (lambda whole: whole[:12] + b"\xff" * 20 + whole[32:], r"is no sound \.(gz|zst) file"),
        (lambda whole: whole + b"garbage!", r"is no sound \.(gz|zst) file"),
        (lambda whole: b"", r"(is empty|is no sound \.zst)"),
        (lambda whole: b"\x00" * 50, r"is no sound \.(gz|zst) file"),
    ],
)
def test_damage_of_a_packed_file_is_told_of_it(packing: str, content, complaint: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / f"a.fvecs.{packing}"
    rows = b"".join(struct.pack("<i5f", 5, *row) for row in spread(99).tolist())
    path.write_bytes(content(PACK[packing](rows)))
    with pytest.raises(VectorFileError, match=complaint) as error:
        open_vectors(path)
    assert str(error.value).startswith(str(path))


def test_what_is_wrong_inside_is_told_of_the_packed_file(tmp_path: Path) -> None:
    path = tmp_path / "a.fvecs.gz"
    path.write_bytes(gzip.compress(struct.pack("<i2fi2f", 2, 1, 2, 3, 1, 2)))
    with (
        pytest.raises(VectorFileError, match=r"a\.fvecs\.gz at byte 12: row 1 says") as error,
        open_vectors(path) as file,
    ):
        file.read(0, 2)
    assert "/dev/fd" not in str(error.value)


@pytest.mark.parametrize("packing", PACK)
def test_a_bomb_is_given_up(packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_ANY_SIZE", 1 << 12)
    monkeypatch.setattr(packed, "_MOST_RATIO", 100)
    path = tmp_path / f"a.csv.{packing}"
    path.write_bytes(PACK[packing](bytes(1 << 22)))
    with pytest.raises(VectorFileError, match="unpacks to more than 100 times its size"):
        open_vectors(path)
    monkeypatch.undo()
    monkeypatch.setattr(packed, "_SPARE", 1 << 62)
    with pytest.raises(VectorFileError, match=r"does not fit .* unpacked; set TMPDIR"):
        open_vectors(path)


def test_a_window_beyond_the_memory_is_refused(tmp_path: Path) -> None:
    library = pytest.importorskip("zstandard")
    wide = library.ZstdCompressionParameters.from_level(1, window_log=26, enable_ldm=True)
    packer = library.ZstdCompressor(compression_params=wide).compressobj()
    path = tmp_path / "a.npy.zst"
    path.write_bytes(packer.compress(os.urandom(100)) + packer.flush())
    with pytest.raises(VectorFileError, match="a window of more than 8 MiB"):
        open_vectors(path)


# zarr


def zarr_v2(folder: Path, values: np.ndarray, chunks: tuple[int, int], **said: object) -> None:
    """Write an array of version 2, unpacked or by zlib."""
    folder.mkdir(parents=True)
    meta = {"zarr_format": 2, "shape": values.shape, "chunks": chunks, "dtype": values.dtype.str, "fill_value": 0}
    meta |= {"order": "C", "filters": None, "compressor": None} | said
    (folder / ".zarray").write_text(json.dumps(meta))
    for i in range(0, len(values), chunks[0]):
        for j in range(0, values.shape[1], chunks[1]):
            block = np.zeros(chunks, values.dtype)
            part = values[i : i + chunks[0], j : j + chunks[1]]
            block[: part.shape[0], : part.shape[1]] = part
            data = block.tobytes(order=meta["order"])  # type: ignore[arg-type]
            name = f"{i // chunks[0]}.{j // chunks[1]}"
            (folder / name).write_bytes(zlib.compress(data) if meta["compressor"] else data)


@pytest.mark.parametrize(
    "said", [{}, {"order": "F"}, {"compressor": {"id": "zlib", "level": 1}}], ids=["plain", "columns", "packed"]
)
def test_a_zarr_array_is_read_chunk_by_chunk(said: dict[str, object], tmp_path: Path) -> None:
    x = spread(23, 7)
    zarr_v2(tmp_path / "a.zarr", x.numpy(), (5, 3), **said)
    (tmp_path / "a.zarr" / "1.1").unlink()  # full of zeros then
    x[5:10, 3:6] = 0
    with open_vectors(tmp_path / "a.zarr") as file:
        assert (file.shape, file.dtype, len(file.files)) == ((23, 7), torch.float32, 15)
        assert torch.equal(file.read(0, 23), x)
        assert torch.equal(file.read(4, 16), x[4:16])
        assert torch.equal(file.take(torch.tensor([22, 4, 4, 5])), x[[22, 4, 4, 5]])
    with Input(tmp_path / "a.zarr").opened("", memory=32, opening=256) as decoded:
        assert torch.equal(decoded.read(0, 23), x)
        assert decoded.decoded
        assert len(decoded.files) == 15
    with open_vectors([tmp_path / "a.zarr", tmp_path / "a.zarr"]) as both:
        assert torch.equal(both.read(20, 26), torch.cat([x[20:], x[:3]]))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="zarr 3 needs Python 3.11")
@pytest.mark.parametrize("version", [2, 3])
def test_what_zarr_writes_is_read(version: int, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr = pytest.importorskip("zarr")
        x = spread(23, 7).numpy()
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
        for name, dtype in (("train", "<f4"), ("obsm/pca", ">f8")):
            group.create_array(name, shape=x.shape, dtype=dtype, chunks=(5, 3))[:] = x
        zarr.consolidate_metadata(group.store)
        packing = zarr.codecs.BloscCodec() if version == 3 else pytest.importorskip("numcodecs").Blosc()
        one = zarr.create_array(
            tmp_path / "b.zarr", shape=x.shape, dtype="f4", chunks=(5, 3), zarr_format=version, compressors=packing
        )
        one[:] = x
    assert open_vectors(tmp_path / "a.zarr", role="centres").read(0, 23).tolist() == x.tolist()
    (tmp_path / "a.zarr").rename(tmp_path / "a")  # which is known by what it holds
    assert open_vectors(f"{tmp_path}/a::obsm/pca").read(3, 4).tolist() == x[3:4].tolist()
    assert open_vectors(tmp_path / "b.zarr").read(0, 23).tolist() == x.tolist()
    with pytest.raises(VectorFileError, match="2 arrays, say which"):
        open_vectors(tmp_path / "a")
    with pytest.raises(VectorFileError, match=r"holds no array .*b\.zarr"):
        open_vectors(f"{tmp_path}/a::../b.zarr")


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"filters": [{"id": "pickle"}]}, "stored with filters, pickle"),
        ({"compressor": {"id": "pickle"}}, "packed by 'pickle'; those that are read: blosc"),
        ({"dtype": "|O"}, r"holds \|O, not real numbers"),
        ({"chunks": [1 << 20, 1 << 20]}, "at most 8 MiB can be read: raise max_memory, or write smaller"),
        ({"chunks": [0, 3]}, "no sound metadata"),
        ({"chunks": None}, "no sound metadata"),
        ({"shape": [4]}, "holds 0 arrays"),
        ({"shape": [1 << 60, 3]}, "of which it holds next to none"),
        ({"shape": [-1, 4]}, "no sound metadata"),
        ({"zarr_format": 9}, "is no zarr array of version 2 or 3"),
        ({"fill_value": "0x7f"}, "no sound metadata"),
        ({"compressor": {"id": "blosc"}}, r"a\.zarr/0\.0: is no sound chunk packed by blosc"),
        ({"compressor": {"id": "zstd"}}, r"a\.zarr/0\.0: is no sound chunk packed by zstd"),
        ({"dtype": "<f8"}, r"96 bytes are expected, there are 48"),
    ],
)
def test_a_zarr_that_is_not_read_says_why(said: dict[str, object], complaint: str, tmp_path: Path) -> None:
    zarr_v2(tmp_path / "a.zarr", spread(4, 3).numpy(), (4, 3))
    meta = json.loads((tmp_path / "a.zarr" / ".zarray").read_text()) | said
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(meta))
    with pytest.raises(VectorFileError, match=complaint), open_vectors(tmp_path / "a.zarr") as file:
        file.read(0, 4)


def test_a_zarr_chunk_that_is_a_bomb_or_a_link_is_refused(tmp_path: Path) -> None:
    zarr_v2(tmp_path / "a.zarr", spread(4, 3).numpy(), (4, 3), compressor={"id": "zlib"})
    chunk = tmp_path / "a.zarr" / "0.0"
    for data, complaint in (
        (zlib.compress(bytes(1 << 24)), "48 bytes are expected"),
        (bytes(1 << 20), "has 1048576 bytes"),
    ):
        chunk.write_bytes(data)
        with pytest.raises(VectorFileError, match=complaint):
            open_vectors(tmp_path / "a.zarr").read(0, 4)
    chunk.unlink()
    (tmp_path / "secret").write_bytes(pickle.dumps(0))
    chunk.symlink_to(tmp_path / "secret")
    with pytest.raises(VectorFileError, match=r"chunk 0\.0 is a link out of the folder"):
        open_vectors(tmp_path / "a.zarr").read(0, 4)


# names


STRANGE = os.fsdecode(b"caf\xe9 \xff::x")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("format", FORMATS)
def test_a_name_that_is_no_text_works_in_every_format(format: str, tmp_path: Path) -> None:
    path = tmp_path / f"{STRANGE}.{format}"
    written = torch.arange(6).reshape(3, 2).to(torch.uint8 if format in ("u8bin", "bvecs") else torch.int8)
    written = written.int() if format in ("ivecs", "ibin") else written
    written = written.float() if format in ("bin", "fbin", "fvecs", "csv") else written
    save_vectors(path, written)
    with open_vectors(path) as file:
        assert torch.equal(file.read(0, 3).int(), written.int())
        assert torch.equal(file.take(torch.tensor([2])).int(), written[2:].int())
        assert file.files == (path,)
    path.write_bytes(b"")
    with pytest.raises(VectorFileError) as error:
        open_vectors(path)
    assert error.value.path == path
    assert "\\xe9" in str(error.value)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_search_takes_names_that_are_no_text_for_all_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = tmp_path / f"{STRANGE}.parquet", tmp_path / f"{STRANGE}.out.hdf5"
    save_vectors(base, spread(20))
    save_vectors(tmp_path / "base.npy", spread(20))
    assert cli.main(["search", str(base), "-k", "3", "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == str(out)
    search_files(tmp_path / "base.npy", k=3, out=tmp_path / "plain.hdf5")
    assert out.read_bytes() == (tmp_path / "plain.hdf5").read_bytes()
    assert cli.main(["verify", str(base), str(out)]) == 0
    assert cli.main(["info", str(base)]) == 0
    assert "20 x 5" in capsys.readouterr().out
