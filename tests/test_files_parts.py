"""A search in parts gives the bytes of the whole search, whoever has searched which part, and whatever stopped them."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import problems
from janelia_core import cli
from janelia_core.files import VectorFileError, merge_files, open_vectors, plan_files, save_vectors, search_files
from janelia_core.files.layout import Layout
from janelia_core.files.parts import merge as merging
from janelia_core.files.parts.part_file import PartFile


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the process stands in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def three(here: Path) -> list[str]:
    """The parts 0.part, 1.part, 2.part of a search of near-ties, and the whole answer w.npz."""
    save_near_ties()
    search_files("c.npy", "x.npy", k=5, out="w.npz")
    return searched_in(3, k=5)


def save_near_ties(n_ctrs: int = 240, n_smps: int = 40) -> None:
    """Save points whose distances tie, as float32 cannot hold tenths, and float64 cannot tell them."""
    draw = torch.Generator().manual_seed(0)
    for name, n in (("c", n_ctrs), ("x", n_smps)):
        save_vectors(f"{name}.npy", torch.randint(0, 4, (n, 4), generator=draw).float() * 0.1)


def searched_in(n: int, queries: str | None = "x.npy", **options: object) -> list[str]:
    """Search in n parts, of which one is searched in small memory."""
    names = [f"{number}.part" for number in range(n)]
    for number, name in enumerate(names):
        memory = "200KiB" if number == 1 else "1GiB"
        search_files("c.npy", queries, out=name, part=(number, n), max_memory=memory, **options)
    return names


def same(one: str, other: str) -> bool:
    return Path(one).read_bytes() == Path(other).read_bytes()


@pytest.mark.parametrize(("n", "queries"), [(1, None), (3, "x.npy"), (7, None), (50, "x.npy")])
def test_parts_of_near_ties_give_the_bytes_of_the_whole_search(n: int, queries: str | None, here: Path) -> None:
    save_near_ties()
    search_files("c.npy", queries, k=7, out="w.npz")
    parts = searched_in(n, queries, k=7)  # of 50 each has 4 or 5 centres, and lists them all
    random.Random(n).shuffle(parts)
    merge_files(parts, "m.npz")
    assert same("m.npz", "w.npz")


@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine", "dot", "manhattan", "chebyshev", "haversine"])
def test_parts_give_the_bytes_of_the_whole_search_by_any_metric(metric: str, here: Path) -> None:
    draw = torch.Generator().manual_seed(1)
    d = 2 if metric == "haversine" else 4
    save_vectors("c.npy", torch.randn(20, d, generator=draw, dtype=torch.float64).repeat(3, 1))
    save_vectors("x.npy", torch.randn(9, d, generator=draw, dtype=torch.float64))
    search_files("c.npy", "x.npy", k=7, out="w.npz", metric=metric)
    report = merge_files(searched_in(4, k=7, metric=metric), "m.npz")
    assert same("m.npz", "w.npz")
    assert 0 < report.bytes_taken <= 60 * d * 8  # copies are in several parts, and each is read once


HARD = [
    "mixed-scales-64",
    "overflow-torch.float64",
    "not-finite-torch.float32",
    "wide-integers",
    "far-offset",
    "all-equal",
]


@pytest.mark.parametrize("name", HARD)
def test_parts_that_are_searched_on_scales_of_their_own_are_brought_together(name: str, here: Path) -> None:
    x, ctrs, *_ = problems.PROBLEMS[name]()
    save_vectors("c.npy", ctrs)
    save_vectors("x.npy", x)
    k = min(5, len(ctrs))
    for metric in ("euclidean", "dot"):
        search_files("c.npy", "x.npy", k=k, out="w.npz", metric=metric)
        merge_files(searched_in(3, k=k, metric=metric), "m.npz")
        assert same("m.npz", "w.npz")


WAYS: list[dict[str, object]] = [
    {"out": "{}.ivecs"},
    {"out": "{}.csv", "distances": "{}.fvecs"},
    {"out": "{}.ibin", "convention": "faiss"},
    {"out": "{}.hdf5", "format": "ann-benchmarks"},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: str(way["out"]))
def test_the_merged_answer_is_that_of_the_whole_search_in_every_format(way: dict[str, str], three: list[str]) -> None:
    if "convention" in way:
        three = searched_in(3, k=5, convention=way["convention"])
    whole, merged = ({name: text.format(to) for name, text in way.items()} for to in ("whole", "merged"))
    format = whole.pop("format", None)
    search_files("c.npy", "x.npy", k=5, formats=(None, None, format), **whole)
    merge_files(three, merged["out"], distances=merged.get("distances"), format=format)
    for name in {"out", "distances"} & whole.keys():
        assert same(merged[name], whole[name])


def test_queries_meet_only_centres_that_share_a_label_in_parts_too(here: Path) -> None:
    save_near_ties()
    for name, n in (("c", 240), ("x", 40)):
        Path(f"{name}.txt").write_text("".join(f"{i % 30},{i % 7}\n" for i in range(n)))
    labels = ("c.txt", "x.txt")
    search_files("c.npy", "x.npy", k=50, out="w.npz", labels=labels)
    merge_files(searched_in(3, k=50, labels=labels), "m.npz")
    assert same("m.npz", "w.npz")


def test_a_merge_is_shared_out_by_rows(three: list[str]) -> None:
    for rows in ((0, 13), (13, 14), (14, 40)):
        search_files("c.npy", "x.npy", k=5, out="w.npy", rows=rows)
        merge_files("*.part", "m.npy", rows=rows)
        assert same("m.npy", "w.npy")
    with pytest.raises(ValueError, match=r"rows must lie within .* 0:40, .* got 40:41"):
        merge_files(".", "m.npy", rows=(40, 41))


class Stopped(Exception):
    pass


def stop_at(step: int) -> Callable[[object], None]:
    seen: list[object] = []

    def callback(progress: object) -> None:
        seen.append(progress)
        if len(seen) == step:
            raise Stopped

    return callback


@pytest.mark.parametrize("outer", ["queries", "centres"])
def test_a_part_that_was_stopped_anywhere_goes_on_to_the_same_bytes(
    outer: str, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(n_smps: int, n_ctrs: int, k: int, **sizes: object) -> Layout:
        return Layout(n_smps, n_ctrs, k, outer, 20, 30, 2**26, 0, 0, 0)

    monkeypatch.setattr("janelia_core.files.question.make_layout", small)
    for step in (1, 2, 3, 5):
        with pytest.raises(Stopped):
            search_files("c.npy", "x.npy", k=5, out="1.part", part=(1, 3), progress=stop_at(step))
        with pytest.raises(ValueError, match="was begun with"):
            search_files("c.npy", "x.npy", k=5, out="1.part", part=(2, 3), resume=True)
        assert search_files("c.npy", "x.npy", k=5, out="1.part", part=(1, 3), resume=True).resumed_at == step
        merge_files(three, "m.npz")
        assert same("m.npz", "w.npz")
    assert not list(Path().glob("*unfinished*"))


def test_a_merge_that_was_stopped_goes_on_to_the_same_bytes(three: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "_PER_SLOT", 1 << 13)  # so that few rows fit
    for step in (1, 2, 3):
        with pytest.raises(Stopped):
            merge_files(three, "m.npz", max_memory="4MiB", progress=stop_at(step))
        with pytest.raises(FileExistsError, match="unfinished"):
            merge_files(three, "m.npz", max_memory="4MiB")
        os.rename("2.part", "elsewhere.part")  # parts may have been moved
        again = merge_files(["0.part", "elsewhere.part", "1.part"], "m.npz", max_memory="8MiB", resume=True)
        os.rename("elsewhere.part", "2.part")
        assert (again.resumed_at, again.steps > 3) == (step, True)
        assert same("m.npz", "w.npz")


def test_a_merge_settles_on_the_way_where_ties_take_more_room_than_there_is(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_vectors("c.npy", torch.tensor([[0.1, 0.2], [0.2, 0.1]]).repeat(60, 1))
    save_vectors("x.npy", torch.tensor([[0.3, 0.3], [0.1, 0.3]]))
    search_files("c.npy", "x.npy", k=5, out="w.npz")
    parts = searched_in(20, k=5)
    widest: list[int] = []
    monkeypatch.setattr(merging, "_SOME", 1)
    monkeypatch.setattr(merging, "_PER_SLOT", 1 << 18)
    gathered = merging.Gathering

    class Watched(gathered):  # type: ignore[misc, valid-type]
        def _sort(self) -> None:
            super()._sort()
            widest.append(self._sorted.width)

    monkeypatch.setattr(merging, "Gathering", Watched)
    merge_files(parts, "m.npz", max_memory="8MiB")
    assert same("m.npz", "w.npz")
    assert max(widest) <= 10 < 20 * 5


def test_of_the_centres_only_open_ties_between_parts_are_read(here: Path) -> None:
    draw = torch.Generator().manual_seed(2)
    ctrs = torch.randn(100, 6, generator=draw)
    save_vectors("x.npy", torch.randn(20, 6, generator=draw))
    save_vectors("c.npy", ctrs.repeat_interleave(3, dim=0))  # the copies of a centre are in one part, whose order holds
    assert merge_files(searched_in(4, k=8), "m.npz").bytes_taken == 0
    save_vectors("c.npy", ctrs.repeat(3, 1))  # in three parts
    for name in searched_in(4, k=8):
        assert PartFile(Path(name)).header.record.bytes == 8 + 8 * (8 + 4 + 4)
    report = merge_files(".", "m.npz")
    with open_vectors("m.npz::indices") as found:
        answered = found.read(0, 20)
    assert 0 < report.bytes_taken <= 3 * len(torch.unique(answered % 100)) * 6 * 4


def damage(name: str, at: int) -> None:
    raw = bytearray(Path(name).read_bytes())
    raw[at] ^= 1
    Path(name).write_bytes(raw)


def put(name: str, **options: object) -> None:
    search_files("c.npy", **{"queries": "x.npy", "k": 5, "out": name, "part": (1, 3), **options})


UNFIT: list[tuple[Callable[[], object], str]] = [
    (lambda: os.remove("1.part"), r"0.part: a part is missing \(1/3\): no file has centres 80 to 159"),
    (lambda: os.remove("0.part"), r"1.part: a part is missing \(0/3\): no file has centres 0 to 79"),
    (lambda: os.remove("2.part"), r"1.part: a part is missing \(2/3\): no file has centres 160 to 239"),
    (lambda: put("1b.part"), "1b.part: is part 1/3, as 1.part is: one of them is too many"),
    (lambda: put("1.part", part=(1, 2)), "0.part: a part is missing: no file has centres 80 to 119"),
    (lambda: put("1.part", part=(0, 2)), "1.part: is part 0/2 and has centres from 0 on, but 0.part has"),
    (lambda: put("1.part", k=6), "1.part: was searched with k 6, but 0.part with 5"),
    (lambda: put("1.part", metric="dot"), "1.part: was searched with metric 'dot', but 0.part with 'euclidean'"),
    (lambda: put("1.part", rows=(0, 39)), r"1.part: was searched with rows \[0, 39\]"),
    (lambda: put("1.part", queries=None), "1.part: is of other queries than 0.part"),
    (lambda: put("1.part", dtype="float64"), "1.part: is of other centres than 0.part"),
    (lambda: (save_near_ties(241), put("1.part")), "1.part: is of other centres than 0.part"),
    (lambda: save_near_ties(240, 41), "x.npy: is not the file of queries that 0.part was searched with"),
    (lambda: os.remove("c.npy"), "c.npy: is not here, where the centres of 0.part were; say where: --centres FILE"),
    (lambda: damage("1.part", 20), "1.part: is damaged: its header"),
    (lambda: damage("1.part", -40), "1.part: is damaged: rows from 0 on are not what was written"),
    (lambda: os.truncate("1.part", 5000), "1.part: is damaged: it has 5000 bytes, where"),
    (lambda: Path("1.part").write_bytes(b""), "1.part: is no part of a search"),
]


@pytest.mark.parametrize(("spoil", "message"), UNFIT)
def test_parts_that_do_not_make_one_search_are_refused_by_name(
    spoil: Callable[[], object], message: str, three: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil()
    with pytest.raises((ValueError, OSError), match=message):
        merge_files(".", "m.npz")
    assert not Path("m.npz").exists()
    assert cli.main(["merge", ".", "-o", "m.npz"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_files_may_be_elsewhere_when_parts_are_merged(three: list[str]) -> None:
    os.mkdir("mounted")
    for name in ("c.npy", "x.npy"):
        os.rename(name, f"mounted/{name}")
    merge_files(three, "m.npz", centres="mounted/c.npy", queries="mounted/x.npy")
    assert same("m.npz", "w.npz")
    with pytest.raises(VectorFileError, match=r"x.npy: is not the file of centres that 0.part was searched with"):
        merge_files(three, "m.npz", centres="mounted/x.npy", queries="mounted/x.npy")


NO_PARTS: list[tuple[dict[str, object], str]] = [
    ({"part": (3, 3)}, "part must be 0/3 to 2/3, numbered from 0, got 3/3"),
    ({"part": (0, 0)}, "part must be one of at least 1 part"),
    ({"part": (0, 241)}, "241 parts need as many centres, there are 240"),
    ({"out": "0.npz"}, "0.npz: is to be the answer of a part; name it NAME.part"),
    ({"distances": "d.npy"}, "distances must be None for a part"),
    ({"part": None}, "0.part: is part of the answer to a search"),
]


@pytest.mark.parametrize(("options", "message"), NO_PARTS)
def test_what_is_no_part_is_refused(options: dict[str, object], message: str, here: Path) -> None:
    save_near_ties()
    with pytest.raises(ValueError, match=message):
        search_files("c.npy", "x.npy", **{"k": 5, "out": "0.part", "part": (0, 3), **options})


def test_a_plan_of_a_part_is_that_of_its_search(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_near_ties()
    plan = plan_files("c.npy", "x.npy", k=90, part=(1, 3), out="1.part")
    report = search_files("c.npy", "x.npy", k=90, part=(1, 3), out="1.part")
    assert plan.layout == report.layout
    assert (plan.layout.n_ctrs, plan.layout.k) == (80, 80)
    need = next(need for need in plan.disk.needs if need.what == "1.part")
    assert abs(need.bytes - Path("1.part").stat().st_size) < 2000  # but for its header
    assert cli.main(["plan", "c.npy", "x.npy", "-k", "90", "--part", "1/3"]) == 0
    assert "40 queries x 80 centres" in capsys.readouterr().out


def test_the_command_searches_parts_and_merges_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_near_ties()
    assert cli.main(["search", "c.npy", "-k", "4", "-o", "w.ivecs"]) == 0
    for i in range(3):
        assert cli.main(f"search c.npy -k 4 --part {i}/3 -o {i}.part".split()) == 0
    assert cli.main(["merge", "2.part", "0.part", "1.part", "-o", "m.ivecs"]) == 0
    assert same("m.ivecs", "w.ivecs")
    capsys.readouterr()
    assert cli.main(["search", "c.npy", "-k", "4", "--part", "3/3", "-o", "3.part"]) == 2
    assert "'3/3' is none of 3 parts, numbered from 0: the last is 2/3" in capsys.readouterr().err
