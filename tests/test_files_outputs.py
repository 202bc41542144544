"""What can be known of an answer's place before the search is, and its file says what other tools expect of it."""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.files import VectorFileError, open_vectors, radius_files, save_vectors, search_files, verify_files
from janelia_core.files.answer import place as places
from janelia_core.files.answer.conventions import CONVENTIONS, told_by
from janelia_core.files.answer.place import Place
from janelia_core.files.answer.room import unfinished_bytes
from janelia_core.files.formats.binary import bigann
from janelia_core.files.inputs.metric_names import notes_on_metric
from janelia_core.files.layout import Layout
from janelia_core.ml._knn.distances.distances import distances
from janelia_core.ml.extra_torch_functions import knn_mc

LONGEST = 255


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 60 centres and 7 queries, which the process stands in."""
    monkeypatch.chdir(tmp_path)
    draw = torch.Generator().manual_seed(0)
    save_vectors("c.npy", torch.randn(60, 5, generator=draw))
    save_vectors("x.npy", torch.randn(7, 5, generator=draw))
    return tmp_path


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that begins fails the test."""

    def searched(*arguments: object, **options: object) -> None:
        raise AssertionError("the search began")

    monkeypatch.setattr("janelia_core.files.resumable.begin", searched)
    monkeypatch.setattr("janelia_core.files.within.Within.blocks", searched)


def search(**options: object):
    return search_files("c.npy", "x.npy", **{"k": 3, "out": "o.npy", **options})


def within(**options: object):
    return radius_files("c.npy", "x.npy", **{"radius": 2.0, "out": "o.npz", **options})


def rows_of(path: Path | str, role: str = "", format: str | None = None) -> Tensor:
    with open_vectors(path, format, role=role) as file:
        return file.read(0, file.n)


def exact(k: int = 3) -> Tensor:
    return knn_mc(rows_of("x.npy"), rows_of("c.npy"), k, 60).T


def make_link(name: str, target: str) -> str:
    os.symlink(target, name)
    return name


def make_folder(name: str) -> str:
    os.makedirs(name)
    return name


UNFIT = [
    (lambda: "nowhere/o.npz", "is to be in a folder that does not exist"),
    (lambda: f"{make_folder('o.npz')}", "is a folder; name a file in it"),
    (lambda: "é" * 126 + ".npz", "has a name of 256 bytes; that folder takes at most 255"),
    (lambda: make_link("o.npz", "o.npz"), "leads back to itself"),
    (lambda: make_link("a.npz", make_link("b.npz", "a.npz")), "leads back to itself"),
    (lambda: make_link("o.npz", "nowhere/o.npz"), "nowhere/o.npz, which is to be in a folder that does not exist"),
    (lambda: make_link("o.npz", make_folder("folder")), "folder, which is a folder"),
    (lambda: make_link("o.npz", "/dev/stdout"), "o.npz: is (what the process has open|no regular file).*take - for"),
    (lambda: "o\0.npz", "has a zero byte in its name"),
    (lambda: make_link("o.npz.unfinished~", "c.npy")[:5], "o.npz.unfinished~ first, which is in the way"),
    (lambda: make_folder("o.npz.unfinished~")[:5], "o.npz.unfinished~ first, which is in the way"),
]


@pytest.mark.skipif(os.name != "posix", reason="names and links as Unix has them")
@pytest.mark.parametrize(("make", "complaint"), UNFIT, ids=[complaint for _, complaint in UNFIT])
def test_a_place_where_no_file_can_be_is_refused_before_the_search(make, complaint: str, here, no_search) -> None:
    out = make()
    before = sorted(os.listdir())
    for call in (lambda: search(out=out), lambda: search(distances=out), lambda: within(out=out)):
        with pytest.raises(VectorFileError, match=complaint):
            call()
    assert sorted(os.listdir()) == before


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a folder of files in /dev")
def test_a_link_in_the_memory_that_dev_has_leads_to_a_file_as_any_other(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        link = Path(folder) / "o.npy"
        link.symlink_to(tmp_path / "o.npy")
        assert Place.of(link).target == (tmp_path / "o.npy").resolve()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write to")
def test_a_folder_that_takes_no_file_is_found_by_trying(here, no_search) -> None:
    for call in (lambda p: search(out=p), lambda p: search(distances=p), lambda p: within(out=p)):
        with pytest.raises(VectorFileError, match=r"^/proc/o\.npz: cannot be written to /proc: "):
            call("/proc/o.npz")


def test_a_disk_that_is_read_only_is_told_by_its_name(here, no_search, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: object, flags: int, mode: int = 0o777) -> int:
        if "d.npy" in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, mode)  # type: ignore[arg-type]

    opened = os.open
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(VectorFileError, match=r"^d\.npy: cannot be written to .*: Read-only file system$"):
        search(distances="d.npy")


@pytest.mark.skipif(os.name != "posix", reason="owners as Unix has them")
def test_what_may_not_be_replaced_is_told_before_the_search(here, no_search, monkeypatch: pytest.MonkeyPatch) -> None:
    save_vectors("o.npy", torch.ones(2, 2))
    with monkeypatch.context() as change:
        change.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(VectorFileError, match="may not be written; change its permissions"):
            search()
    with monkeypatch.context() as change:
        os.chmod(".", 0o1777)
        change.setattr(os, "geteuid", lambda: os.stat(".").st_uid + 1)
        with pytest.raises(VectorFileError, match="belongs to somebody else"):
            search()
    mounts = here / "mounts"
    monkeypatch.setattr(places, "_MOUNTS", mounts)
    mounts.write_bytes(b"1 2 0:3 / %s/a\\040b.npy rw - ext4 /dev/vda rw\n" % os.fsencode(here.resolve()))
    save_vectors("a b.npy", torch.ones(2, 2))
    with pytest.raises(VectorFileError, match="is a mount, which cannot be replaced"):
        search(out="a b.npy")
    with pytest.raises(AssertionError, match="the search began"):
        search()


@pytest.mark.parametrize(
    ("out", "distances", "complaint"),
    [
        ("o.npy", "o.npy", "is the file of the indices"),
        ("o.npy", "O/../o.npy", "is the file of the indices"),
        ("o.npy", "made.npy", "or what that is made from"),
        ("x.npy", None, "x.npy: is an input"),
        ("o.npy", "hard.npy", "hard.npy: is an input"),
        ("soft.npy", None, "soft.npy: is an input"),
        ("w.npy", None, "w.npy.unfinished~ first, which is an input"),
    ],
)
def test_no_file_of_an_answer_stands_for_another_or_for_an_input(
    out: str, distances: str | None, complaint: str, here, no_search
) -> None:
    os.mkdir("O")
    os.link("c.npy", "hard.npy")
    os.symlink("x.npy", "soft.npy")
    os.symlink("o.npy.unfinished~", "made.npy")
    save_vectors("w.npy.unfinished~", rows_of("x.npy"), "npy")
    before = {path.name: path.read_bytes() for path in here.glob("*.npy*") if path.exists()}
    queries = "w.npy.unfinished~" if out == "w.npy" else "x.npy"
    with pytest.raises(VectorFileError, match=complaint):
        search_files("c.npy", queries, k=3, out=out, distances=distances, formats=(None, "npy", None))
    assert {path.name: path.read_bytes() for path in here.glob("*.npy*") if path.exists()} == before


def test_an_answer_within_a_folder_that_is_searched_is_refused(here) -> None:
    os.makedirs("base/parts")
    for name in ("base/o.npy", "base/parts/o.npy"):
        with pytest.raises(VectorFileError, match="is to be within base, which is an input"):
            Place.of(name).check_inputs([Path("base")])
    Place.of("base.npy").check_inputs([Path("base")])


@pytest.mark.parametrize("out", ["base.9.npy", "base.out", "sub/../base.npy", "base9", "sub/base.npy"])
def test_an_answer_that_a_pattern_of_inputs_would_match_is_refused(out: str, here) -> None:
    pattern = {"base9": "base?.unfinished", "sub/base.npy": "s*/b*"}.get(out, "base.*")
    with pytest.raises(VectorFileError, match="would be one of"):
        Place.of(out).check_inputs([Path(pattern)])
    Place.of("o.npy").check_inputs([Path(pattern)])


def test_more_rows_than_a_format_holds_are_told_before_the_search(here, no_search, monkeypatch) -> None:
    monkeypatch.setattr("janelia_core.files.formats.binary.bigann.IBIN", bigann.IBIN._replace(most_rows=6))
    monkeypatch.setattr("janelia_core.files.formats.binary.bigann.FBIN", bigann.FBIN._replace(most_rows=6))
    for out, apart in (("o.ibin", None), ("o.npy", "d.fbin")):
        with pytest.raises(VectorFileError, match="bin holds 6 rows at most, not 7"):
            search(out=out, distances=apart)


@pytest.mark.skipif(os.name != "posix", reason="links as Unix has them")
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(there: bool, here) -> None:
    os.mkdir("big")
    if there:
        save_vectors("big/real.npz", torch.ones(2, 2))
    os.symlink("big/real.npz", "second.npz")
    os.symlink("second.npz", "o.npz")
    os.symlink("big/far", "d.npy")  # whose suffix is that of the link
    report = search(out="o.npz", distances="d.npy")
    assert report.out == Path("o.npz")
    assert torch.equal(rows_of("big/real.npz::indices"), exact())
    assert torch.equal(rows_of("big/real.npz::distances"), rows_of("big/far", format="npy"))
    within(out="o.npz")
    assert "offsets" in np.load("big/real.npz")
    assert os.readlink("o.npz") == "second.npz"
    assert os.readlink("d.npy") == "big/far"
    assert sorted(os.listdir("big")) == ["far", "real.npz"]
    assert sorted(os.listdir()) == ["big", "c.npy", "d.npy", "o.npz", "second.npz", "x.npy"]


class Stopped(Exception):
    """Raised from within a search."""


def stop(progress: object) -> None:
    raise Stopped


@pytest.fixture
def two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def halves(n_smps: int, n_ctrs: int, k: int, *, but_self: bool, **sizes: object) -> Layout:
        return Layout(n_smps, n_ctrs, k, "queries", n_smps, -(-n_ctrs // 2), 2**26, 0, 0, 0, but_self)

    monkeypatch.setattr("janelia_core.files.question.make_layout", halves)


@pytest.mark.skipif(os.name != "posix", reason="names as Unix has them")
@pytest.mark.parametrize("start", ["x", "é", os.fsdecode(b"\xff")], ids=["ascii", "utf-8", "bytes"])
def test_the_longest_name_is_written_and_resumed(start: str, here, two_steps) -> None:
    name = start + "x" * (LONGEST - 4 - len(os.fsencode(start))) + ".npz"
    assert len(os.fsencode(name)) == LONGEST
    with pytest.raises(Stopped):
        search(out=name, progress=stop)
    (folder,) = here.glob("*.unfinished")
    assert (folder / "journal").exists()
    with pytest.raises(FileExistsError):
        search(out=name)
    assert search(out=name, resume=True).resumed_at == 1
    assert torch.equal(rows_of(f"{name}::indices"), exact())
    within(out=name)
    assert sorted(os.listdir()) == sorted(["c.npy", "x.npy", name])


def test_shortened_names_tell_long_names_apart() -> None:
    one, other = (Place.of("x" * 250 + end) for end in "ab")
    assert one.beside == Place.of("x" * 250 + "a").beside
    assert len({one.beside, one.unfinished, other.beside, other.unfinished}) == 4
    assert not one.meets(other)
    assert Place.of("o.npy").beside == Path("o.npy.unfinished~")


def test_a_link_is_resumed_beside_what_it_leads_to(here, two_steps) -> None:
    os.mkdir("big")
    os.symlink("big/real.npy", "o.npy")
    with pytest.raises(Stopped):
        search(progress=stop)
    assert os.listdir("big") == ["real.npy.unfinished"]
    assert search(resume=True).resumed_at == 1
    assert torch.equal(rows_of("big/real.npy"), exact())


Usage = namedtuple("Usage", "total used free")


def test_a_disk_too_small_is_told_before_the_search_with_both_numbers(here, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [0]
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(10**9, 0, free[0]))
    needed = 7 * 3 * (8 + 4) * 2 + 7 * 3 * 4  # arrays, the answer of them, and the distances apart
    free[0] = needed - 1
    with pytest.raises(OSError, match=f"has {needed - 1} bytes free, but {needed} are needed .* for d.fvecs") as raised:
        search(out="o.npz", distances="d.fvecs")
    assert raised.value.errno == errno.ENOSPC
    assert sorted(os.listdir()) == ["c.npy", "x.npy"]
    free[0] = needed
    search(out="o.npz", distances="d.fvecs")
    free[0] = 10
    with pytest.raises(OSError, match=r"without any neighbour"):
        within()


def test_what_an_unfinished_search_has_on_the_disk_is_not_needed_again(
    here, two_steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stopped):
        search(progress=stop)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(10**9, 0, 7 * 3 * 8))  # what the file takes
    assert search(resume=True).resumed_at == 1


def test_what_a_search_keeps_on_disk_is_what_is_reckoned_with(here, two_steps) -> None:
    with pytest.raises(Stopped):
        search(out="o.npz", progress=stop)
    layout = Layout(7, 60, 3, "queries", 7, 30, 2**26, 0, 0, 0)
    sizes = {path.name: path.stat().st_size for path in Path("o.npz.unfinished").iterdir() if path.name != "journal"}
    assert sizes == unfinished_bytes(layout, 4)


class Output(io.TextIOWrapper):
    """Standard output on a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())
        self.buffer.isatty = lambda: True  # type: ignore[method-assign]


@pytest.fixture
def spool(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of TMPDIR, empty."""
    os.mkdir("spool")
    monkeypatch.setattr("tempfile.tempdir", str(here / "spool"))
    return here / "spool"


@pytest.mark.parametrize("format", ["npy", "ivecs", "ibin", "bin", "csv"])
def test_a_dash_writes_the_same_bytes_to_standard_output(format: str, spool: Path, capsysbinary) -> None:
    report = search(out="-", formats=(None, None, format), distances="d.npy")
    search(out=f"o.{format}")
    assert capsysbinary.readouterr().out == Path(f"o.{format}").read_bytes()
    assert report.out == Path("-")
    assert rows_of("d.npy").shape == (7, 3)
    assert list(spool.iterdir()) == []


def test_a_dash_takes_neighbours_within_a_radius(spool: Path, capsysbinary) -> None:
    report = within(out="-", formats=(None, None, "rangeres"))
    within(out="o.rangeres")
    assert capsysbinary.readouterr().out == Path("o.rangeres").read_bytes()
    assert report.out == Path("-")
    with pytest.raises(VectorFileError, match="formats rangeres, not npz"):
        within(out="-", formats=(None, None, "npz"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "-: has no suffix; say which format"),
        (
            {"formats": (None, None, "npz")},
            "-: standard output takes one of the formats npy, ivecs, ibin, bin, csv, not npz",
        ),
        ({"formats": (None, None, "npy"), "resume": True}, "resume must be False"),
        ({"formats": (None, None, "npy"), "distances": "-"}, "-: distances need a file of their own"),
    ],
)
def test_what_standard_output_cannot_take_is_refused(
    options: dict, complaint: str, spool: Path, no_search, capsysbinary
) -> None:
    with pytest.raises(ValueError, match=complaint):
        search(out="-", **options)
    assert capsysbinary.readouterr().out == b""
    assert list(spool.iterdir()) == []


def test_a_terminal_is_spared_binary_numbers(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Output()
    monkeypatch.setattr(sys, "stdout", screen)
    with pytest.raises(VectorFileError, match="is a terminal, npy no text"):
        search(out="-", formats=(None, None, "npy"))
    search(out="-", formats=(None, None, "csv"))
    assert screen.buffer.getvalue().count(b"\n") == 7
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(VectorFileError, match="standard output is closed"):
        search(out="-", formats=(None, None, "csv"))


@pytest.mark.skipif(os.name != "posix", reason="pipes as Unix has them")
def test_a_pipe_that_nobody_reads_is_an_error_of_its_own(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with io.FileIO(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", namedtuple("Text", "buffer flush")(stream, lambda: None))
        with pytest.raises(BrokenPipeError, match="standard output"):
            search(out="-", formats=(None, None, "npy"))
    assert list(spool.iterdir()) == []


def test_a_search_that_fails_leaves_nothing_of_what_was_to_go_to_standard_output(
    spool: Path, two_steps, capsysbinary
) -> None:
    with pytest.raises(Stopped):
        search(out="-", formats=(None, None, "npy"), progress=stop)
    assert capsysbinary.readouterr().out == b""
    assert list(spool.iterdir()) == []


def test_a_file_named_dash_is_one(here) -> None:
    search(out="./-", formats=(None, None, "npy"))
    assert torch.equal(rows_of("./-", format="npy"), exact())


@pytest.mark.parametrize(
    ("metric", "said"), [("euclidean", "euclidean"), ("sqeuclidean", "euclidean"), ("cosine", "angular")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_a_data_set_of_ann_benchmarks_is_one_file(metric: str, said: str, dtype: torch.dtype, here) -> None:
    h5py = pytest.importorskip("h5py")
    save_vectors("b.npy", rows_of("c.npy").mul(40).clamp(1, 255).to(dtype))
    save_vectors("q.npy", rows_of("x.npy").mul(40).clamp(1, 255).to(dtype))
    report = search_files(
        "b.npy",
        "q.npy",
        k=4,
        out="o.hdf5",
        metric=metric,
        formats=(None, None, "ann-benchmarks"),
        rows=(1, 6),
        ctr_rows=(10, 50),
        max_memory="1MiB",
    )
    assert report.bytes_read == report.layout.bytes_read
    with h5py.File("o.hdf5") as file:
        assert dict(file.attrs) == {"type": "dense", "distance": said, "dimension": 5, "point_type": "float"}
        assert {name: (item.shape, item.dtype.str) for name, item in file.items()} == {
            "train": ((40, 5), "<f4"),
            "test": ((5, 5), "<f4"),
            "neighbors": ((5, 4), "<i4"),
            "distances": ((5, 4), "<f4"),
        }
    train, test = rows_of("o.hdf5", "centres"), rows_of("o.hdf5", "queries")
    assert torch.equal(train, rows_of("b.npy")[10:50].float())
    assert torch.equal(test, rows_of("q.npy")[1:6].float())
    told = "cosine" if said == "angular" else "euclidean"
    found = rows_of("o.hdf5", "indices")
    assert torch.equal(rows_of("o.hdf5", "distances"), distances(test, train, found.long(), told))
    assert verify_files("o.hdf5", "o.hdf5", "o.hdf5").n_identical == 5  # by the metric that the file says
    assert len(verify_files("o.hdf5", "o.hdf5", "o.hdf5::neighbors", metric="l1").notes) == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"metric": "dot"}, "convention ann-benchmarks has no distance for the metric dot; it has: euclidean"),
        ({"convention": "faiss"}, "convention must be ann-benchmarks for a data set"),
        ({"dtype": "float64"}, "rounds the centres of torch.float64; round them before: dtype float32"),
        ({"queries": None}, "give QUERIES"),
    ],
)
def test_a_data_set_that_would_tell_a_lie_is_refused(options: dict, complaint: str, here, no_search) -> None:
    pytest.importorskip("h5py")
    queries = options.pop("queries", "x.npy")
    with pytest.raises(ValueError, match=complaint):
        search_files("c.npy", queries, k=2, out="o.hdf5", formats=(None, None, "ann-benchmarks"), **options)


def test_a_name_that_promises_a_packed_file_is_refused(here, no_search) -> None:
    for options in (
        {"out": "o.npy.gz"},
        {"out": "a.ZST", "formats": (None, None, "npy")},
        {"distances": "d.fvecs.zst"},
    ):
        with pytest.raises(VectorFileError, match=r"would not be packed as (gz|zst); write (o\.npy|a|d\.fvecs), and"):
            search(**options)


def test_no_suffix_means_a_whole_data_set(here, no_search) -> None:
    with pytest.raises(VectorFileError, match="no format that is known by 'ann-benchmarks'"):
        search(out="o.ann-benchmarks")


def truth(metric: str, convention: str, x: Tensor, ctrs: Tensor) -> Tensor:
    """Return what a convention tells, of pairs in float64."""
    x, ctrs = x.double(), ctrs.double()
    products = (x * ctrs).sum(-1)
    cosines = products / (x.norm(dim=-1) * ctrs.norm(dim=-1))
    return {
        "euclidean": (x - ctrs).norm(dim=-1) ** (1 if convention == "ann-benchmarks" else 2),
        "cosine": {"ann-benchmarks": 1 - cosines, "diskann": 2 - 2 * cosines}.get(convention, cosines),
        "dot": products,
        "manhattan": (x - ctrs).abs().sum(-1),
        "chebyshev": (x - ctrs).abs().amax(-1),
    }[metric]


PAIRS = [(c, m) for c, metrics in CONVENTIONS.items() for m in metrics if m != "sqeuclidean"]


@pytest.mark.parametrize(("convention", "metric"), PAIRS)
def test_distances_are_told_as_the_tools_of_a_convention_tell_them(convention: str, metric: str, here) -> None:
    search(out="o.ibin", metric=metric, convention=convention)
    search(out="p.ibin", metric=metric)
    found = rows_of("o.ibin", "indices").long()
    assert torch.equal(found, rows_of("p.ibin", "indices").long())
    x, ctrs = rows_of("x.npy"), rows_of("c.npy")
    told = rows_of("o.ibin", "distances")
    assert torch.allclose(told.double(), truth(metric, convention, x[:, None], ctrs[found]), rtol=2e-7, atol=2**-24)
    if told_by(convention, metric).metric == "sqeuclidean":
        assert torch.equal(told, distances(x, ctrs, found, "sqeuclidean"))
        assert not torch.equal(told, rows_of("p.ibin", "distances").square())


@pytest.mark.parametrize("memory", [2**26, 0], ids=["one block", "several"])
@pytest.mark.parametrize("metric", ["euclidean", "dot"])
def test_a_radius_is_one_of_the_metric_whatever_the_convention(
    metric: str, memory: int, here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blocks(n_smps: int, n_ctrs: int, k: int, **sizes: object) -> Layout:
        return Layout(n_smps, n_ctrs, k, "queries", 4, n_ctrs if memory else 13, 2**26, 0, 0, 0)

    monkeypatch.setattr("janelia_core.files.question.make_layout", blocks)
    for name, convention in (("ours", None), ("theirs", "big-ann")):
        within(out=f"{name}.npz", metric=metric, radius=2.0 if metric == "euclidean" else -1.0, convention=convention)
    ours, theirs = np.load("ours.npz"), np.load("theirs.npz")
    assert len(ours["indices"]) > 10
    assert all((ours[name] == theirs[name]).all() for name in ("offsets", "indices"))
    row = torch.from_numpy(np.repeat(np.arange(7), np.diff(ours["offsets"])))
    x, ctrs = rows_of("x.npy")[row], rows_of("c.npy")
    other = "sqeuclidean" if metric == "euclidean" else "dot"
    told = distances(x, ctrs, torch.from_numpy(ours["indices"])[:, None], other)[:, 0]
    assert torch.equal(torch.from_numpy(theirs["distances"]), told if metric == "euclidean" else -told)


def test_a_convention_that_nothing_obeys_is_refused(here, no_search) -> None:
    for options, complaint in [
        (
            {"convention": "scann", "out": "o.npz"},
            "convention must be one of ours, ann-benchmarks, faiss, .*got 'scann'",
        ),
        ({"convention": "faiss"}, "is about distances, but o.npy holds none"),
        ({"convention": "big-ann", "out": "o.npz", "metric": "l1"}, "big-ann has no distance for the metric manhattan"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            search(**options)


def test_an_unfinished_search_goes_on_by_its_own_convention_only(here, two_steps) -> None:
    with pytest.raises(Stopped):
        search(out="o.npz", metric="dot", convention="faiss", progress=stop)
    with pytest.raises(ValueError, match="begun with told negated, not "):
        search(out="o.npz", metric="dot", resume=True)
    assert search(out="o.npz", metric="dot", convention="faiss", resume=True).resumed_at == 1


def test_the_metric_that_a_file_says_is_obeyed_or_contradicted_in_words(here, monkeypatch: pytest.MonkeyPatch) -> None:
    from janelia_core.files.inputs import input as inputs

    opened = inputs.open_file

    def says(*arguments: object):
        file = opened(*arguments)
        file.metric = "cosine" if file.path.name == "c.npy" else None
        return file

    monkeypatch.setattr(inputs, "open_file", says)
    for dtype in (None, "float16"):  # whose file is seen through
        assert search(out="a.npz", dtype=dtype).notes == ()
        search(out="b.npz", metric="cosine", dtype=dtype)
        assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()
        (note,) = search(out="b.npz", metric="l2", dtype=dtype).notes
        assert note == "c.npy says that its metric is cosine, but euclidean was asked for"
    assert len(within(metric="dot", radius=-1.0).notes) == 1
    with open_vectors("c.npy") as file:
        assert notes_on_metric("cosine", file) == ()
        file.metric = "euclidean"
        assert notes_on_metric("sqeuclidean", file) == ()
