"""The file commands: what they print, how they end, and that the Python API does the same."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from janelia_core import cli
from janelia_core.files import open_vectors, save_vectors, verify_files
from janelia_core.files.layout import Layout
from janelia_core.files.shell import command
from janelia_core.ml._knn.merge import nearest
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
    out = folder / "o.npz"
    assert run("search", folder / "c.npy", folder / "x.npy", "-k", 3, "-o", out, "--progress", "none") == 0
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
    assert cli.main(["info", "a.npy", f"--max-memory={text}"]) == 2
    told = capsys.readouterr().err
    assert text[:50] in told
    assert len(told) <= 300


def test_sizes_and_ranges_as_people_write_them() -> None:
    assert [parse_bytes(text) for text in ("17", "2GiB", "2G", "2GB", "1.5 kib")] == [17, 2**31, 2**31, 2 * 10**9, 1536]
    assert [parse_rows(text) for text in ("3:9", ":9", "3:", ":")] == [(3, 9), (None, 9), (3, None), (None, None)]
    assert [show_bytes(size) for size in (999, 2**20, 5 * 2**30)] == ["999 bytes", "1 MiB", "5 GiB"]


@pytest.mark.parametrize(("alias", "metric"), [("L2", "euclidean"), ("ip", "dot"), ("angular", "cosine")])
def test_a_metric_goes_by_the_names_people_type(alias: str, metric: str, folder: Path) -> None:
    for name in (alias, metric):
        assert run("search", folder / "c.npy", "-k", 3, "-o", folder / f"{name}.npy", "--metric", name) == 0
    assert (folder / f"{alias}.npy").read_bytes() == (folder / f"{metric}.npy").read_bytes()


def test_negative_values_and_names_with_a_dash_are_no_options(folder: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    os.rename("c.npy", "-c.npy")
    assert run("radius", "./-c.npy", "x.npy", "--metric", "ip", "--radius", -1, "-o", "o.npz") == 0
    assert run("search", "-k=3", "--out=-o.npy", "x.npy") == 0
    assert run("info", "--", "-o.npy") == 0
    assert run("radius", "--radius", -1, "-o", "o.npz", "--", "-c.npy", "x.npy") == 2
    assert "-1" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_names_that_are_no_utf8_are_files(folder: Path) -> None:
    os.rename(os.fsencode(folder) + b"/c.npy", os.fsencode(folder) + b"/\xe4.npy")
    name = os.fsdecode(b"\xe4.npy")
    assert run("search", folder / name, "-k", 3, "-o", folder / f"o{name}") == 0
    assert (folder / f"o{name}").exists()


def test_the_command_line_to_go_on_with_is_one_that_a_shell_takes() -> None:
    line = command(["search", "a b.npy", os.fsdecode(b"\xe4'.npy"), "\n\u20ac", "\u20ac"])
    assert line == r"janelia-knn search 'a b.npy' $'\xe4\x27.npy' $'\x0a\xe2\x82\xac' '€'"


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(20, 120, 3, "queries", 5, 120, 1 << 26, 0, 0, 0)
    monkeypatch.setattr("janelia_core.files.question.make_layout", lambda *_, **__: layout)


def after_first_step(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Search in four steps, and have something happen in the second."""
    small_blocks(monkeypatch)
    steps: list[object] = []

    def searched(*arguments: object, **options: object) -> object:
        steps.append(None)
        if len(steps) == 2:
            happens()
        return nearest(*arguments, **options)

    monkeypatch.setattr("janelia_core.files.stream.nearest", searched)


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 3), (errno.EIO, 3), (errno.EACCES, 2)])
def test_a_disk_that_stops_a_search_ends_it_with_the_line_to_go_on_and_code_3(
    number: int, code: int, folder: Path, capsys, monkeypatch
) -> None:
    def refused() -> None:
        raise OSError(number, os.strerror(number))

    command = ["search", folder / "c.npy", folder / "x.npy", "-k", 3, "-o", folder / "o.npy"]
    with monkeypatch.context() as patched:
        after_first_step(patched, refused)
        assert run(*command) == code
    told = capsys.readouterr().err
    assert told.startswith("janelia-knn search: error: ")
    assert told.count("--resume") == (code == 3)
    assert told.endswith("/o.npy --resume\n") == (code == 3)
    small_blocks(monkeypatch)
    assert run(*command, "--resume") == 0
    assert torch.equal(open_vectors(folder / "o.npy").read(0, 20), truth(folder, 3))


def test_a_disk_that_is_full_at_once_leaves_nothing_to_go_on_with(folder: Path, capsys, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    assert run("search", folder / "c.npy", folder / "x.npy", "-k", 3, "-o", folder / "o.npy") == 2
    assert "--resume" not in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_sigterm_says_how_to_resume_and_ends_with_143(folder: Path, capsys, monkeypatch) -> None:
    after_first_step(monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
    assert run("search", folder / "c.npy", folder / "x.npy", "-k", 3, "-o", folder / "o.npy") == 143
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith("janelia-knn search: terminated; go on with: janelia-knn search ")
    assert (folder / "o.npy.unfinished" / "journal").exists()


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
    assert told.splitlines()[-1].startswith("janelia-knn search: interrupted; go on with: janelia-knn search ")
    assert told.endswith("--resume\n")
    assert "Traceback" not in told
    assert (folder / "o.npy.unfinished" / "journal").exists()


def test_an_answer_to_standard_output_leaves_the_report_to_stderr(folder: Path, capfdbinary) -> None:
    inputs = [folder / "c.npy", folder / "x.npy"]
    assert run("search", *inputs, "-k", 3, "-o", "-", "--out-format", "csv", "--json") == 0
    told = capfdbinary.readouterr()
    rows = [[int(number) for number in line.split(b",")] for line in told.out.splitlines()]
    assert rows == truth(folder, 3).tolist()
    assert json.loads(told.err.splitlines()[-1])["shape"] == [20, 3]


def test_distances_by_the_convention_of_another_tool(folder: Path) -> None:
    for metric, convention, out in [("l2", "faiss", "a.npz"), ("sqeuclidean", "ours", "b.npz")]:
        options = ["--metric", metric, "--convention", convention, "-o"]
        assert run("search", folder / "c.npy", folder / "x.npy", "-k", 3, *options, folder / out) == 0
        assert run("radius", folder / "c.npy", "--radius", 1, *options, folder / f"r{out}") == 0
    assert (folder / "a.npz").read_bytes() == (folder / "b.npz").read_bytes()
    assert (folder / "ra.npz").read_bytes() == (folder / "rb.npz").read_bytes()


def test_raw_memory_and_tables_are_read_as_the_options_say(folder: Path, capsys) -> None:
    with open_vectors(folder / "c.npy") as c, open_vectors(folder / "x.npy") as x:
        (folder / "c.raw").write_bytes(c.read(0, c.n).numpy().tobytes())
        lines = [",".join(map(repr, row)) for row in x.read(0, x.n).tolist()]
    (folder / "x.csv").write_text("\n".join(["a,b,c,d", *lines]))
    raw = ["--shape", "120,4", "--stored", "float32", "--dtype", "float32"]
    assert run("search", folder / "c.raw", folder / "x.csv", "-k", 3, "-o", folder / "o.npy", "--header", *raw) == 0
    assert torch.equal(open_vectors(folder / "o.npy").read(0, 20), truth(folder, 3))
    assert run("plan", folder / "c.raw", folder / "x.csv", "-k", 3, "--no-header", *raw) == 2
    assert "x.csv" in capsys.readouterr().err
    assert run("plan", folder / "c.raw", "-k", 3, "--shape", "4 x 4") == 2
    assert "'4 x 4' is no shape; write N,D" in capsys.readouterr().err


def test_a_base_of_several_files_is_a_pattern_in_quotes(folder: Path) -> None:
    with open_vectors(folder / "c.npy") as c:
        for part, start in enumerate((0, 50)):
            save_vectors(folder / f"base.{part}.npy", c.read(start, (50, 120)[part]))
    assert run("search", folder / "base.*.npy", folder / "x.npy", "-k", 3, "-o", folder / "o.npy") == 0
    assert torch.equal(open_vectors(folder / "o.npy").read(0, 20), truth(folder, 3))


def test_verify_checks_stored_distances_and_goes_on_where_it_was_stopped(folder: Path, capsys, monkeypatch) -> None:
    inputs, own = [folder / "c.npy", folder / "x.npy"], ["--distances", folder / "d.npy"]
    assert run("search", *inputs, "-k", 3, "-o", folder / "a.npy", *own, "--convention", "faiss") == 0
    with monkeypatch.context() as patched:
        after_first_step(patched, lambda: signal.raise_signal(signal.SIGINT))
        assert run("verify", *inputs, folder / "a.npy", *own, "--convention", "faiss") == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith("--convention faiss --resume")
    small_blocks(monkeypatch)
    assert run("verify", *inputs, folder / "a.npy", *own, "--convention", "faiss", "--resume") == 0
    with open_vectors(folder / "d.npy") as file:
        distances = file.read(0, 20)
    save_vectors(folder / "d.npy", distances + 1)
    assert run("verify", *inputs, folder / "a.npy", *own, "--json", "-o", folder / "exact.npy") == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["distances"]["n_off"] == 60
    assert (folder / "exact.npy").read_bytes() == (folder / "a.npy").read_bytes()
    assert run("verify", *inputs, folder / "a.npy", "-o", "-") == 2


def test_rows_that_share_no_label_never_meet(folder: Path) -> None:
    (folder / "c.txt").write_text("\n".join(["1", "2"] * 60))
    (folder / "x.txt").write_text("\n".join(["2"] * 20))
    labels = ["--labels", folder / "c.txt", folder / "x.txt"]
    inputs = [folder / "c.npy", folder / "x.npy"]
    assert run("search", *inputs, "-k", 3, "-o", folder / "o.npy", *labels) == 0
    assert run("verify", *inputs, folder / "o.npy", *labels) == 0
    assert (open_vectors(folder / "o.npy").read(0, 20) % 2 == 1).all()
