"""How far a search of files is: within steps, in words, as a bar and as JSON; and that it changes nothing."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from janelia_core import cli
from janelia_core.commands.progress import Bar, JsonLines, Log, Shown, line
from janelia_core.files import Progress, follow_files, radius_files, save_vectors, search_files
from janelia_core.files.progress import COMPILING
from janelia_core.ml._knn.report import Report
from janelia_core.ml._runtime import loading

HALF = Progress(done=30 * 10**6, total=90 * 10**6, begun=10**7, seconds=20.0, rows=900)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    g = torch.Generator().manual_seed(0)
    save_vectors(tmp_path / "c.npy", torch.randn(5000, 40, generator=g))
    save_vectors(tmp_path / "x.npy", torch.randn(3000, 40, generator=g))
    return tmp_path


@pytest.mark.parametrize("kind", ["search", "radius"])
def test_progress_moves_within_a_step(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every count that the only step of a search reports is seen by who looks then."""
    seen: list[Progress] = []
    inputs = folder / "c.npy", folder / "x.npy"
    with follow_files() as followed:
        add = Report.add

        def looked(report: Report, **numbers: object) -> None:
            add(report, **numbers)
            seen.append(followed.now())

        monkeypatch.setattr(Report, "add", looked)
        if kind == "search":
            search_files(*inputs, k=5, out=folder / "o.npy", max_memory="20MiB")
        else:
            radius_files(*inputs, radius=6.0, out=folder / "o.npz", max_memory="20MiB")
        seen.append(followed.now())
    done = [now.done for now in seen]
    assert done == sorted(done)
    assert any(0 < now < 15_000_000 for now in done)
    assert done[-1] == seen[-1].total == 15_000_000
    assert {now.rows for now in seen} == {3000}


def test_whoever_shows_progress_changes_no_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for mode in ("none", "log", "json", "bar"):
        out = folder / f"{mode}.npz"
        command = ["search", f"{folder}/c.npy", f"{folder}/x.npy", "-k", "5", "-o", f"{out}", "--progress", mode]
        assert cli.main(command) == 0
        answers.append(out.read_bytes())
        told = capsys.readouterr().err
        if mode == "json":
            last = json.loads(told.splitlines()[-1])
            assert (last["rows"], last["of"], last["left"]) == (3000, 3000, 0.0)
        elif mode == "bar":
            assert "3.00k/3.00k" in told
        else:
            assert all(COMPILING in line for line in told.splitlines())
    assert len(set(answers)) == 1


def test_a_file_that_is_decoded_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.csv").write_text("1,2\n3,4\n5,6\n")
    stages = []
    monkeypatch.setattr(
        "janelia_core.files.formats.spool.write_all", lambda *_: stages.append(followed.now().stage), raising=True
    )
    with follow_files() as followed, pytest.raises(Exception):  # noqa: B017, PT011  nothing was written
        search_files(tmp_path / "c.csv", k=1, out=tmp_path / "o.npy")
    assert stages[0] == "decoding c.csv"


def test_kernels_that_are_compiled_are_said() -> None:
    with follow_files() as followed:
        assert followed.now().stage == "opening the files"
        loading.compiles()
        try:
            assert followed.now().stage == COMPILING
        finally:
            loading.compiled()
        assert followed.now().stage == "opening the files"


def test_a_line_tells_rows_rate_and_time_left() -> None:
    assert line(HALF) == "searching: 300 of 900 rows, 33.3%, 10 rows/s, 0:20 gone, 1:00 left"
    assert line(Progress(0, 1, 0, 3.0, "decoding a.csv")) == "decoding a.csv, 0:03 gone"
    assert line(Progress(5, 10, 5, 3.0, rows=2)) == "searching: 1 of 2 rows, 50.0%, 0:03 gone"


def test_a_log_has_a_line_a_minute_and_one_for_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    stream = io.StringIO()
    log = Log(stream)
    for _ in range(1300):  # looks, a tenth of a second apart
        clock += 0.1
        log.show(HALF)
    assert stream.getvalue().count("\n") == 2
    for stage, lines in [(COMPILING, 2), (COMPILING, 3), (COMPILING, 3), ("decoding a", 3), ("decoding a", 4)]:
        log.show(HALF._replace(stage=stage))
        assert stream.getvalue().count("\n") == lines
        clock += 3


def test_json_lines_tell_what_a_program_wants_to_know() -> None:
    stream = io.StringIO()
    shown = JsonLines(stream)
    for stage in ("searching", "searching", COMPILING):
        shown.show(HALF._replace(stage=stage))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first == {"stage": "searching", "rows": 300, "of": 900, "rate": 10.0, "seconds": 20.0, "left": 60.0}
    assert second["stage"] == COMPILING


def test_a_bar_shows_stage_rows_rate_and_time_left() -> None:
    stream = Terminal()
    bar = Bar(stream)
    bar.show(Progress(0, 1, 0, 0.1, "decoding a.csv"))
    bar.show(HALF)
    bar.close()
    told = stream.getvalue()
    assert "decoding a.csv" in told
    assert re.search(r"searching: +33%.*300/900 \[00:20<0[01]:[05]\d, +[\d.]+ ?row/s\]", told)


def test_auto_is_a_bar_on_a_terminal_only_and_lines_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, written in ((Terminal(), True), (io.StringIO(), False)):
        with Shown("auto", stream):
            pass
        assert bool(stream.getvalue()) == written
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    stream = Terminal()
    with Shown("bar", stream):
        pass
    assert stream.getvalue() == ""


def test_a_stream_that_is_gone_stops_no_search() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    before = threading.active_count()
    with Shown("json", Gone()):
        pass
    assert threading.active_count() == before
    assert sys.stderr is not None
