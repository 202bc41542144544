"""The first call answers by torch operations while kernels load, and hands over to them between blocks of rows."""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch

import fresh_process
from janelia_core.ml import CenterIndex, knn
from janelia_core.ml._knn import ladder, meanwhile
from janelia_core.ml._knn import search as search_module
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._runtime import loader, loading
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml.neighbors import watch_knn
from janelia_core.ml.warming import warm
from plans import SCREENS_HERE
from structured import few_directions

LITTLE = 1 << 20  # bytes: many blocks of rows


def points(n: int, d: int, seed: int) -> torch.Tensor:
    """Return rows of a lattice, many of them there twice: there are ties."""
    return torch.randint(-6, 7, (n, d), generator=torch.Generator().manual_seed(seed)).float() / 4


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let calls meet kernels that nobody has loaded yet."""
    monkeypatch.setenv(loading.VARIABLE, "thread")
    monkeypatch.setattr(loading, "_loader", loader.Loader())
    yield
    loading._loader.end()


def ready_from(monkeypatch: pytest.MonkeyPatch, question: int) -> None:
    """Let kernels be ready when a search asks for them the n-th time."""
    asked = itertools.count()
    monkeypatch.setattr(meanwhile, "are_ready", lambda *_: next(asked) >= question)


@pytest.mark.parametrize(("n", "n_ctrs", "d", "screen"), [(3000, 3000, 3, "tree"), (700, 6000, 24, "dense")])
@pytest.mark.parametrize("of", ["others", "themselves", "some"])
def test_screens_switch_in_the_middle_of_a_call(
    n: int, n_ctrs: int, d: int, screen: str, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctrs = points(n_ctrs, d, 0)
    x = None if of == "themselves" else points(n, d, 1)
    subject = CenterIndex(ctrs, max_memory=0) if of == "themselves" else None
    mask = torch.rand(n_ctrs, generator=torch.Generator().manual_seed(2)) < 0.9 if of == "some" else None

    def answer() -> tuple[torch.Tensor, torch.Tensor]:
        asked = {"k": 5, "max_memory": LITTLE}
        return knn(x, ctrs, mask=mask, **asked) if subject is None else subject.knn(**asked)

    right = answer()
    for question in (2, 4):
        ready_from(monkeypatch, question)
        with watch_knn() as reports:
            found = answer()
        assert torch.equal(found[0], right[0])
        assert torch.equal(found[1], right[1])
        assert 0 < reports[0].n_meanwhile < len(found[0])
        assert reports[0].plan.screen == screen
        assert "rows, by torch operations" in str(reports[0])


@pytest.mark.parametrize("takes_over", [True, False])
def test_a_rare_screen_takes_over_from_the_usual_one_where_that_would_take_long(
    takes_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, ctrs = few_directions(10_000, 8192, 40)
    right = knn(x, ctrs, 5)
    polled = itertools.count()

    def ready(use: tuple[object, ...], *_: object, **__: object) -> bool:
        return use[1] == "dense" or next(polled) >= 2  # the rare are there when asked for the third time

    monkeypatch.setattr(meanwhile, "are_ready", ready)
    monkeypatch.setattr(search_module, "_WORTH_A_CHANGE", 0.0 if takes_over else 600.0)
    with watch_knn() as reports:
        found = knn(x, ctrs, 5, max_memory=32 * LITTLE)
    assert torch.equal(found.indices, right.indices)
    assert torch.equal(found.distances, right.distances)
    if takes_over:
        assert 0 < reports[0].n_meanwhile < len(x)
        assert reports[0].plan.screen == "leading"
        assert "rows, by the dense screen" in str(reports[0])
    else:
        assert (reports[0].n_meanwhile, reports[0].plan.screen) == (0, "dense")


def test_a_long_search_leaves_a_processor_to_whoever_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    ctrs, x, at_once, most = points(6000, 24, 0), points(1500, 24, 1), set[int](), list[int]()
    right = knn(x, ctrs, 5)
    in_block = ladder.Ladder.search

    def counted(self: ladder.Ladder, rows: Rows) -> torch.Tensor:
        if rows.numbers[0] == 0:  # before it is known how long it takes
            return in_block(self, rows)
        at_once.add(threading.get_ident())
        most.append(len(at_once))
        time.sleep(0.01)
        try:
            return in_block(self, rows)
        finally:
            at_once.discard(threading.get_ident())

    monkeypatch.setattr(meanwhile, "are_ready", lambda *_: False)
    monkeypatch.setattr(search_module, "is_compiling_apart", lambda: True)
    monkeypatch.setattr(ladder.Ladder, "search", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for seconds, processors, workers in ((600.0, 2, 2), (0.0, 2, 1), (0.0, 16, 2)):
            most.clear()
            monkeypatch.setattr(search_module, "_LONG", seconds)
            monkeypatch.setattr(search_module, "n_processors", lambda processors=processors: processors)
            with watch_knn() as reports:
                found = knn(x, ctrs, 5, max_memory=48 * LITTLE)
            assert reports[0].n_meanwhile == len(x)
            assert torch.equal(found.indices, right.indices)
            assert max(most) == workers
    finally:
        torch.set_num_threads(before)


def test_a_call_says_what_it_waits_for_and_stays_within_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    ready_from(monkeypatch, 1000)
    with watch_knn() as reports:
        knn(points(3000, 3, 0), points(3000, 3, 1), 5, max_memory=4 * LITTLE)
    plan = reports[0].plan
    assert (plan.screen, plan.later and plan.later.screen) == ("portable", "tree")
    assert plan.reason == "torch operations, until the kernels for the tree screen are loaded"
    assert plan.workspace_bytes <= 4 * LITTLE
    assert reports[0].n_meanwhile == 3000


def test_until_kernels_are_there_rows_are_shared_out_to_threads_of_one_torch_thread_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ctrs, x = points(3000, 3, 0), points(6000, 3, 1)
    right = knn(x, ctrs, 5)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        counts: list[int] = []

        def is_ready(*_: object) -> bool:
            counts.append(torch.get_num_threads())
            return len(counts) > 2  # asked once for the plan

        monkeypatch.setattr(meanwhile, "are_ready", is_ready)
        with watch_knn() as reports:
            found = knn(x, ctrs, 5, max_memory=64 * LITTLE)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found.indices, right.indices)
    assert 0 < reports[0].n_meanwhile < len(x)
    assert counts[0] == 2
    assert set(counts[1:3]) == {1}


def test_uses_that_call_other_kernels_have_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    uses: list[tuple[object, ...]] = []
    monkeypatch.setattr(meanwhile, "are_ready", lambda use, *_: uses.append(use) or True)
    shapes = [(10, 40_000, 32, 5), (20, 200_000, 8, 5), (500, 3000, 16, 3000), (500, 3000, 16, 1500)]
    machine = this_machine(torch.device("cpu"))
    for n, n_ctrs, d, k in shapes:
        plan = make_plan(n, n_ctrs, d, k, n_ctrs, machine=machine)
        meanwhile.asker(torch.ones(1, d), torch.ones(1, d))(plan)
    masked = replace(plan, problem=plan.problem._replace(masked=True))
    meanwhile.asker(torch.ones(1, d), torch.ones(1, d))(masked)
    assert [use[1] for use in uses] == ["direct", "direct", "sorted", "sorted", "sorted"]
    assert len(set(uses)) == len(uses)


def test_kernels_given_up_beside_a_call_do_not_take_over(unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    loading._loader.ready.add("broken")
    assert loading.are_ready("broken", lambda: None)
    monkeypatch.setattr(loading, "are_given_up", lambda: True)
    assert not loading.are_ready("broken", lambda: None)


def test_nothing_is_kept_of_torch_operations_and_an_index_prepares_with_kernels(
    unloaded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(meanwhile, "rehearse", lambda *_: gate.wait(60))
    ctrs, x = points(3000, 24, 0), points(300, 24, 1)
    index = CenterIndex(ctrs)
    first = index.knn(x, 5).indices
    assert index.nbytes == 0
    index.prepare(10**6, 5)  # waits for kernels, though the gate is shut
    assert index.nbytes > 0
    kept = index.nbytes
    assert torch.equal(index.knn(x, 5).indices, first)
    assert index.nbytes == kept
    gate.set()


def test_warming_reaches_every_screen_and_says_where_kernels_are_kept() -> None:
    state = torch.get_rng_state()
    warmed = warm()
    assert {screen.name for screen in SCREENS_HERE} - warmed.screens <= {"portable"}  # which has no kernels
    assert warmed.folders
    assert all(folder.is_dir() for folder in warmed.folders)
    assert torch.equal(torch.get_rng_state(), state)


def test_uses_are_rehearsed_once_each_what_was_wanted_last_first(unloaded: None) -> None:
    done: list[str] = []
    begun, gate = threading.Event(), threading.Event()

    def rehearsal(name: str) -> None:
        begun.set()
        gate.wait(60)
        done.append(name)

    assert not loading.are_ready("first", partial(rehearsal, "first"))
    assert begun.wait(60)
    for name in "abcab":
        assert not loading.are_ready(name, partial(rehearsal, name))
    gate.set()
    assert loading.are_ready("c", partial(rehearsal, "c"), patience=60.0)
    assert all(loading.are_ready(name, partial(rehearsal, name)) for name in "ab")
    assert done == ["first", "c", "b", "a"]


def test_whoever_waits_for_kernels_on_disk_goes_on_when_one_has_to_be_compiled(unloaded: None) -> None:
    gate = threading.Event()

    def rehearse() -> None:
        loading.compiles()
        gate.wait(60)

    assert not loading.are_ready("missing", rehearse, patience=60.0)  # else this takes a minute
    gate.set()
    while not loading.are_ready("missing", rehearse):
        time.sleep(0.001)
    assert loading.are_ready("there", lambda: None, patience=60.0)


def test_what_is_put_off_begins_at_the_end_of_a_search_or_when_somebody_waits(unloaded: None) -> None:
    begun = threading.Event()
    assert not loading.are_ready("late", begun.set, patience=60.0, delay=60.0)  # else this takes a minute
    assert not begun.wait(0.2)
    loading.begin()
    assert begun.wait(60)
    assert not loading.are_ready("later", begun.set, delay=60.0)
    assert loading.are_ready("now", lambda: None, patience=60.0)
    until_ready("later")
    assert not loading.are_ready("soon", begun.set, delay=0.1)
    until_ready("soon")


def until_ready(use: str) -> None:
    end = time.monotonic() + 60
    while not loading.are_ready(use, lambda: None):
        assert time.monotonic() < end
        time.sleep(0.001)


def test_whoever_comes_while_kernels_load_waits_for_them(unloaded: None) -> None:
    gate, begun = threading.Event(), threading.Event()

    def rehearse() -> None:
        begun.set()
        gate.wait(60)

    loading.are_ready("use", rehearse)
    assert begun.wait(60)
    threading.Timer(0.1, gate.set).start()
    assert loading.are_ready("use", rehearse, patience=60.0, delay=60.0)


def test_what_is_enough_serves_at_once_and_the_rest_waits_for_the_end_of_a_search(unloaded: None) -> None:
    rest = threading.Event()

    def rehearse() -> None:
        loading.enough(60.0)
        rest.set()

    assert loading.are_ready("use", rehearse, patience=60.0)
    assert not rest.wait(0.2)
    loading.begin()
    assert rest.wait(60)
    assert loading.are_ready("another", partial(loading.enough, 60.0), patience=60.0)
    loading._loader.end()  # which does not wait a minute
    loading.enough(60.0)  # of no effect elsewhere


def test_who_loads_runs_torch_in_one_thread_and_all_others_keep_theirs(unloaded: None) -> None:
    before, counts = torch.get_num_threads(), dict[str, int]()
    torch.set_num_threads(3)
    try:
        use = partial(lambda: counts.update(loads=torch.get_num_threads()))
        assert loading.are_ready("counts", use, patience=60.0)
        other = threading.Thread(target=lambda: counts.update(other=torch.get_num_threads()))
        other.start()
        other.join()
        assert counts | {"own": torch.get_num_threads()} == {"loads": 1, "other": 3, "own": 3}
    finally:
        torch.set_num_threads(before)


def test_kernels_are_waited_for_where_torch_operations_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, float, float]] = []

    def noted(use: tuple[object, ...], _: object, patience: float, delay: float) -> bool:
        asked.append((use[1], patience, delay))
        return False

    monkeypatch.setattr(meanwhile, "are_ready", noted)
    machine = replace(this_machine(torch.device("cpu")), threads=2)
    for n, n_ctrs, d in ((2000, 3000, 3), (10_000, 8192, 64), (100_000, 10_000, 3)):
        plan = make_plan(n, n_ctrs, d, 10, n_ctrs, machine=machine)
        meanwhile.now(plan, meanwhile.asker(torch.ones(1, d), torch.ones(1, d)))
    again = [i + 1 for i, one in enumerate(asked) if one[0] == "leading"]  # the usual, so that it comes first
    usual = [one for i, one in enumerate(asked) if one[0] != "leading" and i not in again]
    assert [(patience > 0, delay > 0) for _, patience, delay in usual] == [(False, True), (True, True), (True, False)]
    assert [one[1:] for one in asked if one[0] == "leading"] == [(0.0, meanwhile.QUIET)]


def test_kernels_begin_to_load_when_a_search_is_done(unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meanwhile, "QUIET", 600.0)
    done: list[str] = []
    monkeypatch.setattr(meanwhile, "rehearse", lambda plan, *_: done.append(plan.screen))
    with watch_knn() as reports:
        knn(points(2000, 3, 0), points(3000, 3, 1), 5)
    assert reports[0].n_meanwhile == 2000
    end = time.monotonic() + 60
    while "tree" not in done:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_what_goes_wrong_beside_the_calls_is_said_by_the_next(unloaded: None) -> None:
    program = """
import os, warnings
os.environ["JANELIA_CORE_KERNELS"] = "thread"
import numba, torch
from janelia_core.ml.extra_torch_functions import knn_mc
from janelia_core.ml._runtime import kernels
def fail(*_, **__):
    raise RuntimeError("LLVM")
numba.core.dispatcher._FunctionCompiler.compile = fail
numba.core.caching.IndexDataCacheFile.load = lambda *_: None
x, c = torch.randn(300, 16), torch.randn(5000, 16)
import time
found = []
for _ in range(200):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        knn_mc(x, c, 5, 5000)
    found += [str(w.message)[:54] for w in caught]
    if kernels.are_given_up() and found:
        break
    time.sleep(0.05)
print(found)
"""
    ended = fresh_process.run(program)
    assert ended.stdout + ended.stderr == "['Compiled kernels cannot be used (RuntimeError: LLVM). ']\n"


LOADS = """
import os, signal, sys, threading, time
os.environ["JANELIA_CORE_KERNELS"] = "thread"
from janelia_core.ml._runtime import loading
from janelia_core.ml._runtime.machine import this_machine
begun = threading.Event()
def rehearse():
    while True:  # functions without end, each of them short
        begun.set()
        time.sleep(0.01)
        loading.before_function()
assert not loading.are_ready("endless", rehearse)
begun.wait()
"""
ENDS = {
    "at its end": "",
    "by sys.exit": "sys.exit(0)",
    "by Ctrl-C": "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(60)\nexcept KeyboardInterrupt: pass",
    "at once": "sys.stdout.flush(); os._exit(0)",
}


@pytest.mark.parametrize("how", ENDS)
def test_a_process_ends_cleanly_while_kernels_load(how: str) -> None:
    import subprocess
    import sys

    ended = subprocess.run([sys.executable, "-c", LOADS + ENDS[how]], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system does not fork")
def test_a_fork_in_between_waits_for_one_function_and_the_child_loads_anew() -> None:
    program = """
child = os.fork()
if child == 0:
    ok = not loading.are_ready("endless", lambda: None, patience=0.0)
    ok = ok and loading.are_ready("endless", lambda: None, patience=20.0)
    os._exit(0 if ok else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
before = begun.clear()
print(begun.wait(20))  # the parent goes on
"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ended = fresh_process.run(LOADS + program + "loading._loader.end()")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("0\nTrue\n", "", 0)
