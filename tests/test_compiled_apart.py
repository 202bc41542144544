"""Kernels that are not on disk are compiled by a process of its own; where that cannot be, by the thread that loads."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import fresh_process
from janelia_core.ml._runtime import apart, loader, loading, marks

fcntl = pytest.importorskip("fcntl")  # elsewhere the thread compiles

IN_TIME = 60.0  # seconds
ANSWERS = "import sys\nwhile sys.stdin.buffer.read(1):\n  sys.stdout.write('+'); sys.stdout.flush()"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let calls meet kernels that nobody has loaded yet, and keep marks in a folder of their own."""
    monkeypatch.delenv(loading.VARIABLE)
    monkeypatch.setattr(marks, "folders", lambda: [tmp_path])
    monkeypatch.setattr(apart, "_DELAY", 0.0)
    monkeypatch.setattr(loading, "_loader", loader.Loader())
    yield tmp_path
    loading._loader.end()


def until(answer: Callable[[], bool]) -> None:
    end = time.monotonic() + IN_TIME
    while not answer():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_locked(folder: Path) -> bool:
    with open(folder / marks.LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def started(monkeypatch: pytest.MonkeyPatch, program: str) -> list[int]:
    """Let another program run in place of the one that compiles; return the numbers of the processes to come."""
    numbers: list[int] = []
    start = apart._started

    def noted(lock: int) -> object:
        process = start(lock)
        numbers.append(process.pid)
        return process

    monkeypatch.setattr(apart, "_PROGRAM", program)
    monkeypatch.setattr(apart, "_started", noted)
    return numbers


ASKS = """
import os, sys, time, warnings
warnings.simplefilter("error")
os.environ["JANELIA_CORE_KERNELS"] = ""
os.environ["NUMBA_CACHE_DIR"] = sys.argv[1]
sys.path.insert(0, sys.argv[2])
from janelia_core.ml._runtime import loading
from functools import partial
"""
ENDS_EARLY = """
import tiny_kernels
assert not loading.are_ready("twice", tiny_kernels.rehearse, patience=60.0)
assert loading.is_compiling()
loading._loader.end()
"""
LOADS = """
import tiny_kernels
assert loading.are_ready("twice", tiny_kernels.rehearse, patience=60.0)
print(tiny_kernels.twice.stats.cache_hits, tiny_kernels.twice.stats.cache_misses)
loading._loader.end()
"""


def test_a_process_that_ends_early_leaves_a_filled_cache_and_the_next_one_only_loads(tmp_path: Path) -> None:
    arguments = tmp_path, Path(__file__).parent
    ended = fresh_process.run(ASKS + ENDS_EARLY, *arguments)
    assert ended == (0, "", "")
    assert is_locked(tmp_path)
    until(lambda: not is_locked(tmp_path))
    assert len(list(tmp_path.glob("*.mark"))) == 1
    assert len(list(tmp_path.glob("tests_*/tiny_kernels.twice*.nbc"))) == 1
    kept = sorted(tmp_path.rglob("*"))
    assert not [path for path in kept if ".tmp." in path.name]
    ended = fresh_process.run(ASKS + LOADS, *arguments)
    assert "Counter({(float64,): 1}) Counter()" in ended.stdout
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(tmp_path.rglob("*")) == kept


def test_what_only_goes_into_others_seeks_no_place_on_disk(tmp_path: Path) -> None:
    asked = "import tiny_kernels as t; print(t.quarter(3.0), t.quarter._cache._is_open, t.half._cache._is_open)"
    program = "import os, sys; os.environ['NUMBA_CACHE_DIR'] = sys.argv[1]; sys.path.insert(0, sys.argv[2]); " + asked
    ended = [fresh_process.run(program, tmp_path, Path(__file__).parent) for _ in range(2)]
    assert [one.stdout for one in ended] == ["0.75 True True\n", "0.75 True None\n"]


def test_what_is_compiled_apart_is_rehearsed_here_when_it_is_done_and_nothing_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = started(monkeypatch, ANSWERS)
    done = folder / "done"
    assert not loading.are_ready("use", done.touch, patience=IN_TIME)
    until(lambda: loading.are_ready("use", done.touch))
    assert done.exists()
    loading._loader.end()
    assert len(numbers) == 1
    with pytest.raises(ChildProcessError):  # its end has been seen
        os.waitpid(numbers[0], os.WNOHANG)
    assert not is_locked(folder)


NUMBERS = """
import contextlib, os, pickle, sys, time
pickle.load(sys.stdin.buffer)
while True:
    try:
        use = pickle.loads(pickle.load(sys.stdin.buffer))[0]
    except EOFError:
        break
    with open({path!r}, "a") as file:
        print(use, file=file)
    time.sleep(0.3 if use == "first" else 0.0)
    with contextlib.suppress(OSError):
        os.write(1, b"+")
"""


@pytest.mark.parametrize("ends", [False, True])
def test_what_was_wanted_last_is_compiled_first_and_at_the_end_of_the_process_all_is_sent(
    ends: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = folder / "order"
    started(monkeypatch, NUMBERS.format(path=str(order)))
    assert not loading.are_ready("first", order.exists)
    until(order.exists)
    for use in ("a", "b", "c", "a"):
        assert not loading.are_ready(use, order.exists)
    if ends:
        loading._loader.end()
    until(lambda: order.read_text().split() == ["first", "a", "c", "b"])


def test_where_the_child_dies_the_thread_loads_by_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = started(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    done = folder / "done"
    until(lambda: loading.are_ready("use", done.touch))
    assert done.exists()
    assert len(numbers) == 1


@pytest.mark.parametrize("why", ["a rehearsal of this process", "no folder", "no interpreter", "no processes"])
def test_what_cannot_be_compiled_apart_is_loaded_by_the_thread(
    why: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, done = started(monkeypatch, ANSWERS), folder / "done"
    if why == "no folder":
        monkeypatch.setattr(apart, "writable", lambda: None)
    elif why == "no interpreter":
        monkeypatch.setattr(apart.sys, "executable", "")
    elif why == "no processes":
        monkeypatch.setattr(apart.subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError()))
    rehearse = (lambda: done.touch()) if why == "a rehearsal of this process" else done.touch
    until(lambda: loading.are_ready("use", rehearse))
    assert done.exists()
    assert not numbers


def test_while_another_process_compiles_this_one_waits_and_then_looks_on_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = started(monkeypatch, ANSWERS)
    done = folder / "done"
    with open(folder / marks.LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not loading.are_ready("use", done.touch)
        assert not loading.are_ready("other", done.touch)
        time.sleep(3 * loader.POLL)
        assert not done.exists()
        marks.mark("use")  # as the other process does
        until(lambda: loading.are_ready("use", done.touch))
        assert not loading.are_ready("other", done.touch)
    assert not numbers
    until(lambda: loading.are_ready("other", done.touch))
    assert len(numbers) == 1


def test_what_is_on_disk_does_not_wait_for_what_is_compiled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, "import sys; sys.stdin.buffer.read()")  # never done
    done = folder / "done"
    assert not loading.are_ready("missing", done.touch, patience=IN_TIME)
    marks.mark("there")
    assert loading.are_ready("there", done.touch, patience=IN_TIME)
    assert not loading.are_ready("missing", done.touch)


def test_a_mark_that_is_wrong_is_found_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = started(monkeypatch, ANSWERS)
    marks.mark("use")
    done = folder / "done"
    until(lambda: loading.are_ready("use", partial(say_that_it_is_missing, done)))
    assert len(numbers) == 1
    assert done.exists()


def test_it_is_compiled_apart_also_if_another_process_compiles_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = started(monkeypatch, ANSWERS)
    marks.mark("use")
    done = folder / "done"
    with open(folder / marks.LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not loading.are_ready("use", partial(say_that_it_is_missing, done), patience=IN_TIME)
        time.sleep(3 * loader.POLL)
        assert not done.exists()
    until(lambda: loading.are_ready("use", partial(say_that_it_is_missing, done)))
    assert len(numbers) == 1


def say_that_it_is_missing(done: Path) -> None:
    loading.compiles()
    done.touch()


def test_a_fork_does_not_wait_for_the_child_and_leaves_it_to_its_parent(folder: Path) -> None:
    program = f"""
import os, subprocess
os.environ["JANELIA_CORE_KERNELS"] = ""
from pathlib import Path
from janelia_core.ml._runtime import apart, loading, marks
marks.folders = lambda: [Path({str(folder)!r})]
apart._DELAY = 0.0
apart._PROGRAM = {ANSWERS.replace("while ", "import time; time.sleep(1)" + chr(10) + "while ")!r}
done = Path({str(folder)!r}, "done")
assert not loading.are_ready("use", done.touch, patience=60.0)
while loading._loader._apart._process is None:
    pass
process, begun = loading._loader._apart._process, __import__("time").monotonic()
child = os.fork()
if child == 0:
    os._exit(0 if process.stdin.closed and not loading.is_compiling() and process.returncode == 0 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert __import__("time").monotonic() < begun + 0.8
while not loading.are_ready("use", done.touch):
    pass
loading._loader.end()
print(process.returncode)
"""
    assert fresh_process.run(program) == (0, "0\n", "")


def test_a_child_whose_folder_is_gone_ends_and_makes_no_other(tmp_path: Path) -> None:
    program = """
import os, shutil, sys
os.environ["NUMBA_CACHE_DIR"] = sys.argv[1]
sys.path.insert(0, sys.argv[2])
from janelia_core.ml._runtime import compiling, kernel_cache
os.makedirs(sys.argv[1])
lock = os.open(sys.argv[1] + "/lock", os.O_CREAT)
child = os.fork()
if child == 0:
    kernel_cache.before_writing.append(lambda: compiling._end_without(lock))
    shutil.rmtree(sys.argv[1])
    import tiny_kernels
    tiny_kernels.twice(1.0)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    gone = tmp_path / "gone"
    assert fresh_process.run(program, gone, Path(__file__).parent) == (0, "0\n", "")
    assert not gone.exists()


def test_a_child_that_says_nothing_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_SILENT", 0.2)
    numbers = started(monkeypatch, "import time; time.sleep(600)")
    rehearsed = folder / "rehearsed"
    loading.are_ready("use", rehearsed.touch)
    until(rehearsed.exists)
    until(lambda: bool(numbers) and not Path("/proc", str(numbers[0])).exists())


def test_writing_to_a_child_that_has_died_raises_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Command-line programs let SIGPIPE end them."""
    reader, writer = os.pipe()
    os.close(reader)
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with apart._without_signal(), pytest.raises(BrokenPipeError):
            os.write(writer, b"x")
    finally:
        signal.signal(signal.SIGPIPE, before)
        os.close(writer)


def test_a_home_that_is_missing_or_closed_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat

    def denied(path: object, *args: object, **kwargs: object) -> object:
        if str(path).startswith("/closed"):
            raise PermissionError(str(path))
        return stat(path, *args, **kwargs)  # type: ignore[call-overload]

    def missing() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/closed")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "numba", None)  # whose settings say where kernels are kept
        patch.setattr(os, "stat", denied)
        patch.setattr(Path, "home", missing)
        assert not marks.is_marked("use")
        assert marks.writable() == tmp_path
        marks.mark("use")
        assert marks.is_marked("use")


def test_a_thread_that_fails_is_no_longer_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart.Apart, "takes", lambda *_: 1 // 0)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    begun = time.monotonic()
    assert not loading.are_ready("use", folder.touch, patience=IN_TIME)
    assert time.monotonic() - begun < IN_TIME / 2
