"""The file commands: what they print, how they end, and that the Python API does the same."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from janelia_core import cli
from janelia_core.commands.bar import Bar
from janelia_core.files import Progress, open_vectors, save_vectors, verify_files
from janelia_core.ml.extra_torch_functions import knn_mc
from janelia_core.sizes import parse_bytes, parse_rows, show_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    g = torch.Generator().manual_seed(0)
    save_vectors(tmp_path / "c.npy", torch.randn(60, 4, generator=g).repeat(2, 1))  # every centre twice
    save_vectors(tmp_path / "x.npy", torch.randn(20, 4, generator=g))
    return tmp_path


def truth(folder: Path, k: int) -> torch.Tensor:
    x, c = (open_vectors(folder / name) for name in ("x.npy", "c.npy"))
    return knn_mc(x.read(0, x.n), c.read(0, c.n), k, c.n).T.contiguous()


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_search_writes_the_answer_and_says_what_it_read(folder: Path, capsys) -> None:
    assert run("search", folder / "c.npy", folder / "x.npy", "-k", 3, "-o", folder / "o.npz") == 0
    told = capsys.readouterr()
    assert "20 queries x 120 centres, k = 3" in told.out
    assert f"read: {140 * 16} bytes" in told.out
    assert told.err == ""
    assert torch.equal(open_vectors(folder / "o.npz::indices").read(0, 20), truth(folder, 3))


def test_files_and_options_come_in_any_order(folder: Path) -> None:
    inputs = [folder / "c.npy", folder / "x.npy"]
    assert run("search", inputs[0], "-k", 3, inputs[1], "-o", folder / "o.npy") == 0
    assert torch.equal(open_vectors(folder / "o.npy").read(0, 20), truth(folder, 3))
    assert run("verify", "--metric", "euclidean", inputs[0], "-k", 2, inputs[1], "--json", folder / "o.npy") == 0
    assert run("search", "-k", 3, "-o", folder / "own.npy", inputs[0]) == 0
    assert run("verify", inputs[0], "-k", 3, folder / "own.npy") == 0


def test_plan_and_search_agree_in_json(folder: Path, capsys) -> None:
    assert run("plan", folder / "c.npy", folder / "x.npy", "-k", 3, "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert run("search", folder / "c.npy", folder / "x.npy", "-k", 3, "-o", folder / "o.npy", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert planned["k"] == 3
    assert planned["bytes_planned"] == done["bytes_planned"] == done["bytes_read"] == 140 * 16
    assert done["shape"] == [20, 3]


def test_plan_in_words(folder: Path, capsys) -> None:
    assert run("plan", folder / "c.npy", "-k", 3, "--max-memory", "8MiB") == 0
    told = capsys.readouterr().out
    assert "120 queries x 120 centres, k = 3\n" in told
    assert "one neighbour more as each row finds itself" in told
    assert "screen: none" in told


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (torch.zeros(0, 4), "has no rows"),
        (torch.zeros(1).expand(3, 1 << 40), "it stores 1 numbers"),  # 4 bytes that say they are 12 TiB
        (torch.zeros(3, 4).to(torch.float8_e4m3fn), "torch.float8_e4m3fn"),
    ],
)
def test_info_of_what_is_no_set_of_rows_is_one_line(values: torch.Tensor, complaint: str, tmp_path, capsys) -> None:
    torch.save(values, tmp_path / "a.pt")
    assert run("info", tmp_path / "a.pt") == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1


def test_verify_counts_ties_fairly(folder: Path, capsys) -> None:
    exact = truth(folder, 3)
    twins = (exact + 60) % 120  # the other copy of every centre: nothing is farther, but 3 = 1 pair and a half
    save_vectors(folder / "a.ivecs", torch.where(torch.arange(3) == 2, twins, exact).int())
    assert run("verify", folder / "c.npy", folder / "x.npy", folder / "a.ivecs") == 0
    told = capsys.readouterr().out
    assert "recall@3: 1.000000 (60 of 60)" in told
    assert "wrong rows: 0 of 20" in told


def test_verify_finds_every_kind_of_wrong_row(folder: Path, capsys) -> None:
    answer = truth(folder, 4)
    far = truth(folder, 120)[:, -1]
    answer[3, 3] = far[3]  # too far
    answer[5, 1] = answer[5, 0]  # listed twice
    answer[7, 0] = 120  # no such centre
    answer[9, 2] = -1
    answer[11] = answer[11].flip(0)  # right, but not in order
    answer[12] = answer[12][[1, 0, 3, 2]]  # copies tie: in order
    save_vectors(folder / "a.npy", answer)
    found = verify_files(folder / "c.npy", folder / "x.npy", folder / "a.npy")
    assert found.wrong_rows == [3, 5, 7, 9]
    assert (found.n_wrong, found.n_found, found.n_unordered, found.n_identical) == (4, 76, 1, 14)
    assert run("verify", folder / "c.npy", folder / "x.npy", folder / "a.npy", "--json") == 1
    assert json.loads(capsys.readouterr().out)["recall"] == pytest.approx(0.95)


def test_verify_finds_the_nearest_missing_though_recall_is_1(tmp_path: Path) -> None:
    save_vectors(tmp_path / "c.npy", torch.tensor([[1.0], [2.0], [-2.0], [2.0]]))
    save_vectors(tmp_path / "x.npy", torch.zeros(1, 1))
    for answer, wrong in [([0, 1], 0), ([3, 0], 0), ([1, 2], 1), ([2, 3], 1)]:  # 1, 2, 3 tie for the second place
        save_vectors(tmp_path / "a.npy", torch.tensor([answer]))
        found = verify_files(tmp_path / "c.npy", tmp_path / "x.npy", tmp_path / "a.npy")
        assert (found.n_wrong, found.recall, found.all_right) == (wrong, 1.0, not wrong)


@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine", "dot", "manhattan", "chebyshev"])
def test_verify_checks_the_answer_of_a_search_by_any_metric(metric: str, folder: Path, capsys) -> None:
    inputs = [folder / "c.npy", folder / "x.npy"]
    assert run("search", *inputs, "-k", 3, "-o", folder / "o.npy", "--metric", metric) == 0
    assert run("verify", *inputs, folder / "o.npy", "--metric", metric) == 0
    exact = open_vectors(folder / "o.npy").read(0, 20)
    twins = torch.where(torch.arange(3) == 2, (exact + 60) % 120, exact)  # the other copy in the last place ties
    save_vectors(folder / "a.npy", torch.where((twins[:, :2] == twins[:, 2:]).any(dim=1, keepdim=True), exact, twins))
    assert run("verify", *inputs, folder / "a.npy", "--metric", metric) == 0
    exact[4] = exact[4].flip(0)
    save_vectors(folder / "a.npy", exact)
    found = verify_files(*inputs, folder / "a.npy", metric=metric)
    assert (found.n_wrong, found.n_unordered, found.n_identical) == (0, 1, 19)
    c, x = (open_vectors(path) for path in inputs)
    worst = (x.read(0, 20) @ c.read(0, 120).T).argmin(dim=1)  # the most opposite direction is no neighbour by any
    exact[7, 2] = worst[7]
    save_vectors(folder / "a.npy", exact)
    assert verify_files(*inputs, folder / "a.npy", metric=metric).wrong_rows == [7]


def test_verify_compares_near_ties_exactly(tmp_path: Path) -> None:
    one = torch.tensor([[1.0, 1.0 + 2**-52], [1.0, 1.0 + 2**-51], [1.0 + 2**-52, 1.0]], dtype=torch.float64)
    save_vectors(tmp_path / "c.npy", one)
    save_vectors(tmp_path / "x.npy", torch.zeros(1, 2, dtype=torch.float64))
    for answer, wrong in [([0], 0), ([2], 0), ([1], 1)]:
        save_vectors(tmp_path / "a.npy", torch.tensor([answer]))
        assert verify_files(tmp_path / "c.npy", tmp_path / "x.npy", tmp_path / "a.npy").n_wrong == wrong


def test_verify_of_a_search_among_the_centres_themselves(folder: Path) -> None:
    assert run("search", folder / "c.npy", "-k", 5, "-o", folder / "o.ibin") == 0
    assert run("verify", folder / "c.npy", folder / "o.ibin") == 0
    save_vectors(folder / "self.npy", torch.arange(120)[:, None])
    assert run("verify", folder / "c.npy", folder / "self.npy") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["search", "none.npy", "-k", "1", "-o", "o.npy"], "none.npy: there is no such file"),
        (["search", "c.npy", "x.npy", "-k", "200", "-o", "o.npy"], "k must be at most the number of centres = 120"),
        (["search", "c.npy", "-k", "120", "-o", "o.npy"], "the number of other centres = 119"),
        (["search", "c.npy", "bad.npy", "-k", "1", "-o", "o.npy"], "bad.npy at byte 0: has no .npy header"),
        (["search", "c.npy", "wide.npy", "-k", "1", "-o", "o.npy"], "has 5 columns, but c.npy has 4"),
        (["search", "c.npy", "x.npy", "-k", "1", "-o", "o.fvecs"], "holds vectors, no indices"),
        (["search", "c.npy", "x.npy", "-k", "1", "-o", "no/o.npy"], "folder that does not exist"),
        (["search", "c.npy", "x.npy", "-k", "1", "-o", "o.npy", "--max-memory", "1KiB"], "max_memory must be at least"),
        (["search", "c.npy", "x.npy", "-k", "1", "-o", "o.npy", "--rows", "5:50"], "within the 20 rows of x.npy"),
        (["search", "c.npy", "x.npy", "-k", "1", "-o", "o.npy", "--device", "abacus"], "device must be one that torch"),
        (["search", "c.npy", "x.npy", "-k", "1", "-o", "o.npy", "--device", "meta"], "device must be one that torch"),
        (["plan", "c.npy", "-k", "1", "--device", "meta"], "device must be one that torch"),
        (["info", "bad.npy"], "bad.npy at byte 0"),
        (["verify", "c.npy", "x.npy", "c.npy"], "c.npy: has 120 rows, but there are 20 queries"),
        (["verify", "c.npy", "c.npy", "c.npy"], "are no row numbers"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    arguments: list[str], complaint: str, folder: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(folder)
    Path("bad.npy").write_bytes(b"no array")
    save_vectors("wide.npy", torch.zeros(3, 5))
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.startswith(f"janelia-knn {arguments[0]}: error: ")
    assert told.count("\n") == 1
    with pytest.raises((ValueError, OSError)):
        cli.main([*arguments, "--debug"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-o", "x.npy"], "x.npy: is an input of this search"),
        (["-o", "link.npy"], "link.npy: is an input of this search"),
        (["-o", "o.npy", "--distances", "./c.npy"], "c.npy: is an input of this search"),
        (["-o", "o.npy", "--distances", "./o.npy"], "o.npy: is the file of the indices"),
        (["-o", "o.npy", "--distances", "d.ivecs"], "d.ivecs: the format ivecs holds integers, no distances"),
        (["-o", "o.npy", "--distances", "d.ibin"], "d.ibin: the format ibin holds integers, no distances"),
        (["-o", "pipe.npy"], "pipe.npy: is no regular file"),
        (["-o", "o.hdf5"], "pip install 'janelia-core[files]'"),
        (["-o", "o.npy", "--distances", "d.hdf5"], "pip install 'janelia-core[files]'"),
    ],
)
def test_an_answer_that_cannot_be_or_would_destroy_is_refused_before_the_search(
    arguments: list[str], complaint: str, folder: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "h5py", None)
    os.link("x.npy", "link.npy")
    os.mkfifo("pipe.npy")
    before = {path.name: path.read_bytes() for path in folder.glob("?.npy")}
    assert run("search", "c.npy", "x.npy", "-k", 3, *arguments) == 2
    assert complaint in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.glob("?.npy")} == before
    assert not list(folder.glob("*.unfinished*"))


@pytest.mark.parametrize("text", ["0", "1XB", "-3MiB", "lots", "9" * 400, "9" * 5000 + "GiB"])
def test_a_size_that_is_none_is_refused(text: str, capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["info", "a.npy", f"--max-memory={text}"])
    assert text in capsys.readouterr().err


def test_sizes_and_ranges_as_people_write_them() -> None:
    assert [parse_bytes(text) for text in ("17", "2GiB", "2G", "2GB", "1.5 kib")] == [17, 2**31, 2**31, 2 * 10**9, 1536]
    assert [parse_rows(text) for text in ("3:9", ":9", "3:", ":")] == [(3, 9), (None, 9), (3, None), (None, None)]
    assert [show_bytes(size) for size in (999, 2**20, 5 * 2**30)] == ["999 bytes", "1 MiB", "5 GiB"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_rate_and_remaining_time_on_a_terminal_only() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        with Bar(stream) as bar:
            bar(Progress(done=30 * 10**6, total=90 * 10**6, begun=10**7, seconds=20.0))
    assert pipe.getvalue() == ""
    assert terminal.getvalue() == "\r[########................]  33.3%       1.0M pairs/s  0:20 gone, 1:00 left \n"


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs begin without
from janelia_core import cli
from janelia_core.files import question, stream
from janelia_core.files.layout import Layout
question.make_layout = lambda n, c, k, **s: Layout(n, c, k, "queries", 1, 10, 2**26, 0, 0, 0)
fast = stream.extend
def slow(*arguments, **options):
    print("step", flush=True)
    time.sleep(0.2)
    fast(*arguments, **options)
stream.extend = slow
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_says_how_to_resume_and_ends_with_130(folder: Path, capsys) -> None:
    command = ["search", f"{folder}/c.npy", f"{folder}/x.npy", "-k3", "-o", f"{folder}/o.npy"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.startswith("janelia-knn search: interrupted; go on with: janelia-knn search ")
    assert told.endswith("--resume\n")
    assert "Traceback" not in told
    assert (folder / "o.npy.unfinished" / "journal").exists()
