"""Searches answer in every process and thread: forked, beside others, at the end, without a thread to be had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import fresh_process
from janelia_core.ml import knn, log_cosh
from janelia_core.ml._runtime import standing, team
from janelia_core.ml._runtime.workers import Workers, shared
from janelia_core.ml.extra_torch_functions import knn_mc

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

PROBLEMS = """
import os, signal, threading, time
import torch
from janelia_core.ml import knn, log_cosh
from janelia_core.ml.extra_torch_functions import knn_mc

torch.manual_seed(0)
torch.set_num_threads(2)
SHAPES = [(10, 10, 3), (500, 500, 16), (300, 5000, 16), (700, 5000, 3)]
DATA = [(torch.randn(n, d), torch.randn(m, d)) for n, m, d in SHAPES]
VALUES = torch.randn(300_000)

def truth():
    found = [torch.cdist(x.double(), c.double()).topk(5, largest=False) for x, c in DATA]
    return [f.indices.T.contiguous() for f in found]

def answers():
    return [knn_mc(x, c, 5, len(c)) for x, c in DATA]

def more():
    return [*(knn(x[:100], c, 3).distances for x, c in DATA), log_cosh(VALUES)]

def same(one, other):  # by bytes: torch's own comparison may be shared out between threads
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(one, other, strict=True))

def child(work, right, limit=60):
    number = os.fork()
    if number == 0:
        signal.alarm(limit)  # ends a child that waits for ever
        os._exit(0 if same(work(), right) else 3)
    return number

def ended(number):
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
"""


def prints(program: str) -> str:
    run = fresh_process.run(PROBLEMS + program, timeout=200)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
def two_torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """All threads that are started from now on, when none waits for work."""
    standing.dismiss()
    threads: list[threading.Thread] = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (threads.append(thread), start(thread)))
    return threads


@needs_fork
def test_children_forked_while_other_threads_search_answer() -> None:
    program = """
right, stop = truth(), False
def loop():
    while not stop:
        assert same(answers(), right)
assert same(answers(), right)
threads = [threading.Thread(target=loop) for _ in range(2)]
[thread.start() for thread in threads]
codes = []
for turn in range(12):
    time.sleep(0.003 * turn)
    codes.append(ended(child(answers, right)))
stop = True
[thread.join() for thread in threads]
print(set(codes))
"""
    assert prints(program) == "{0}\n"


@needs_fork
@pytest.mark.parametrize("pause", [0.05, 0.4])
def test_children_forked_while_kernels_are_loaded_answer(pause: float) -> None:
    program = f"""
right, children = truth(), []
thread = threading.Thread(target=answers)
thread.start()
for _ in range(4):
    time.sleep({pause})
    children.append(child(answers, right, limit=100))
print({{ended(number) for number in children}})
thread.join()
"""
    assert prints(program) == "{0}\n"


@needs_fork
@pytest.mark.parametrize("kernels", [True, False])
def test_a_child_answers_after_torch_used_threads_that_the_fork_left_behind(kernels: bool) -> None:
    program = f"""
os.environ["NUMBA_DISABLE_JIT"] = "{int(not kernels)}"
(torch.randn(1000, 1000) @ torch.randn(1000, 1000)).exp()
right = answers() + more()
print(ended(child(lambda: answers() + more(), right)))
"""
    assert prints(program) == "0\n"


@needs_fork
def test_a_child_forked_by_a_worker_answers_and_forks() -> None:
    program = """
from janelia_core.ml._runtime.workers import Workers
right = truth()
def nested():
    assert ended(child(answers, right)) == 0
    return answers()
with Workers(2) as workers:
    codes = workers.each(lambda _: ended(child(nested, right)), range(2))
print(codes)
"""
    assert prints(program) == "[0, 0]\n"


class Nearest(Dataset[Tensor]):
    """The nearest centres of one block of rows after the other, and their log cosh."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x, self.ctrs = torch.randn(1200, 3, generator=generator), torch.randn(4000, 3, generator=generator)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> Tensor:
        found = knn_mc(self.x[i * 400 : (i + 1) * 400], self.ctrs, 5, 4000)
        assert log_cosh(torch.ones(200_000)).unique().numel() == 1
        return found


METHODS = torch.multiprocessing.get_all_start_methods()


@pytest.mark.parametrize("method", [one for one in METHODS if one != "spawn" or len(METHODS) == 1])  # the slowest one
def test_workers_of_a_data_loader_answer_while_their_parent_searches(method: str) -> None:
    data, processes = Nearest(), 1 if method == "spawn" else 2  # which imports torch in each
    expected = knn_mc(data.x, data.ctrs, 5, 4000)
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            knn_mc(data.x, data.ctrs, 5, 4000)

    beside = threading.Thread(target=loop)
    beside.start()
    try:
        found = list(
            DataLoader(data, batch_size=None, num_workers=processes, multiprocessing_context=method, timeout=120)
        )
    finally:
        stop.set()
        beside.join()
    assert torch.equal(torch.cat(found, dim=1), expected)


def test_sixteen_callers_at_once_get_their_answers(two_torch_threads: None) -> None:
    sizes = [100 + 50 * i for i in range(16)]
    problems = [(torch.randn(n, 3), torch.randn(4000, 3), torch.randn(200_000)) for n in sizes]

    def work(i: int) -> tuple[Tensor, Tensor]:
        x, ctrs, values = problems[i]
        return knn_mc(x, ctrs, 5, 4000), log_cosh(values)

    expected = [work(i) for i in range(16)]
    found: list[tuple[Tensor, Tensor] | None] = [None] * 16
    callers = [threading.Thread(target=lambda i=i: found.__setitem__(i, work(i))) for i in range(16)]
    [caller.start() for caller in callers]
    [caller.join() for caller in callers]
    assert all(
        f is not None and torch.equal(f[0], e[0]) and torch.equal(f[1], e[1])
        for f, e in zip(found, expected, strict=True)
    )
    waiting = [thread for thread in threading.enumerate() if thread.name == team.NAME]
    assert len(waiting) <= (os.cpu_count() or 1)
    assert all(thread.daemon for thread in waiting)


def test_a_thread_that_outlives_main_and_an_exit_handler_get_answers() -> None:
    program = """
import atexit
right = truth()
def say(where):
    print(where, same(answers(), right), log_cosh(VALUES.requires_grad_()).sum().backward() is None, flush=True)
def late():
    threading.main_thread().join()
    say("after main")
atexit.register(say, "at exit")
threading.Thread(target=late).start()
"""
    run = subprocess.run([sys.executable, "-c", PROBLEMS + program], capture_output=True, text=True, timeout=200)
    assert (run.stdout, run.stderr, run.returncode) == ("after main True True\nat exit True True\n", "", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's way to refuse a stack")
def test_without_a_thread_to_be_had_the_calling_thread_answers() -> None:
    program = """
right = truth()
threading.stack_size(1 << 46)  # more than there are addresses
try:
    threading.Thread(target=int).start()
except RuntimeError as error:
    print(error)
before = torch.get_num_threads()
print(same(answers(), right), len(more()), torch.get_num_threads() == before)
"""
    assert prints(program) == "can't start new thread\nTrue 5 True\n"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit that holds for root's other self")
@pytest.mark.parametrize("kernels", [True, False])
def test_under_a_limit_of_threads_the_calling_thread_answers_and_torch_starts_none(kernels: bool) -> None:
    program = f"""
import resource
os.environ["NUMBA_DISABLE_JIT"] = "{int(not kernels)}"
from janelia_core.ml._knn.small import at_once as small
small._PATIENCE = -1.0  # all kernels are loaded now: nobody may read root's cache later
right, wanted = truth(), []


def differentiate():
    x = VALUES.clone().requires_grad_()
    torch.autograd.grad(log_cosh(x), x, torch.ones(()).expand(x.shape))


def load():
    answers(), differentiate(), wanted.extend(more())


first = threading.Thread(target=load)  # OpenMP's threads end with it
first.start()
first.join()
if os.getuid() == 0:
    os.setuid(65534)  # nobody: root has no limit
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    threading.Thread(target=int).start()
except RuntimeError as error:
    print(error)
differentiate()
print(same(answers(), right), same(more(), wanted))
"""
    assert prints(program) == "can't start new thread\nTrue True\n"


@pytest.mark.parametrize("had", [0, 1, 2, 3])
def test_as_many_threads_work_as_can_be_had(had: int, monkeypatch: pytest.MonkeyPatch, two_torch_threads: None) -> None:
    standing.dismiss()
    left, start = [had], threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if left[0] == 0:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with Workers(3) as workers:
        seen = workers.each(lambda i: (i, torch.get_num_threads(), threading.current_thread().name), range(50))
    monkeypatch.undo()
    standing.dismiss()
    assert [(i, count) for i, count, _ in seen] == [(i, 1) for i in range(50)]
    assert ({name for *_, name in seen} == {threading.current_thread().name}) == (had == 0)
    assert (torch.get_num_threads(), count_of_new_threads()) == (2, 2)


def count_of_new_threads() -> int:
    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return counts[0]


def test_a_count_that_another_thread_set_is_left_to_new_threads(two_torch_threads: None) -> None:
    thread = threading.Thread(target=lambda: torch.set_num_threads(5))
    thread.start()
    thread.join()
    with Workers(2) as workers:
        assert workers.each(lambda _: torch.get_num_threads(), range(4)) == [1] * 4
    assert (torch.get_num_threads(), count_of_new_threads()) == (2, 5)


def small(x: Tensor) -> object:
    return knn(x, x, 3, metric="cosine")


def differentiated(x: Tensor) -> object:
    return knn(x.requires_grad_(), x, 3).distances.sum().backward()


@pytest.mark.parametrize("work", [small, differentiated, log_cosh, lambda x: knn_mc(x, x, 2, 3)])
def test_small_work_starts_no_thread(
    work: Callable[[Tensor], object], started: list[threading.Thread], two_torch_threads: None
) -> None:
    work(torch.randn(10, 3))
    assert started == []


def test_where_torch_runs_in_one_thread_so_do_searches(started: list[threading.Thread]) -> None:
    assert torch.get_num_threads() == 1
    knn(torch.randn(700, 16), torch.randn(4000, 16), 5)
    log_cosh(torch.randn(300_000))
    assert started == []


def test_a_thread_is_started_for_each_item_at_most(started: list[threading.Thread], two_torch_threads: None) -> None:
    with Workers(8) as workers:
        assert workers.each(str, []) == []
        assert started == []
        assert workers.each(str, [1]) == ["1"]
        assert len(started) == 2  # the other sets the count of new threads
        assert workers.each(str, [1, 2, 3]) == ["1", "2", "3"]
    assert len(started) == 5
    standing.dismiss()
    assert not any(thread.is_alive() for thread in started)


def test_threads_wait_for_the_next_call_and_keep_nothing_of_the_last(
    started: list[threading.Thread], two_torch_threads: None
) -> None:
    def call(work: Callable[[int], object]) -> None:
        with Workers(2) as workers:
            workers.each(work, range(2))

    x = torch.zeros(3)
    held = weakref.ref(x)
    call(lambda i, x=x: x[i].item())
    before = len(started)
    for _ in range(3):
        call(str)
        shared(str, range(2), 2)
    assert len(started) == before
    del x
    assert held() is None


def test_a_team_of_more_threads_than_a_call_wants_lends_it_as_many(two_torch_threads: None) -> None:
    standing.dismiss()
    with Workers(4) as workers:
        workers.each(str, range(4))
    names: set[int] = set()

    def note(_: int) -> None:
        names.add(threading.get_ident())
        time.sleep(0.001)

    with Workers(2) as workers:
        workers.each(note, range(40))
    assert len(names) <= 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processors that can be chosen")
def test_threads_of_other_processors_do_not_work_for_a_call(two_torch_threads: None) -> None:
    before = os.sched_getaffinity(0)
    with Workers(2) as workers:
        workers.each(str, range(2))
    try:
        os.sched_setaffinity(0, {min(before)})
        with Workers(2) as workers:
            assert workers.each(lambda _: os.sched_getaffinity(0), range(4)) == [{min(before)}] * 4
    finally:
        os.sched_setaffinity(0, before)


def test_what_a_worker_shares_out_it_does_itself(started: list[threading.Thread], two_torch_threads: None) -> None:
    def inner(i: int) -> list[int]:
        before = len(started)
        with Workers(4) as workers:
            found = workers.each(lambda j: 10 * i + j, range(3))
        assert len(started) == before
        return found

    with Workers(2) as workers:
        workers.each(str, range(2))
        assert workers.each(inner, range(3)) == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]


@pytest.mark.parametrize("pool", [True, False])
def test_the_first_item_that_fails_is_raised_and_few_begin_after_it(pool: bool, two_torch_threads: None) -> None:
    begun: list[int] = []

    def work(i: int) -> None:
        begun.append(i)
        if i >= 5:
            raise ValueError(str(i))

    with Workers(3, pool) as workers, pytest.raises(ValueError, match=r"^5$"):
        workers.each(work, range(1000))
    assert len(begun) <= 5 + 3
    with pytest.raises(ValueError, match=r"^5$"):
        shared(work, range(1000), 3)


@pytest.mark.parametrize("place", ["once", "shared"])
def test_workers_compute_with_subnormals_and_helpers_as_the_caller(place: str, two_torch_threads: None) -> None:
    tiny = torch.tensor([5e-324], dtype=torch.float64)
    products: list[float] = []
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        if place == "once":
            with Workers.if_several(1) as workers:
                products = workers.each(lambda _: (tiny * 1.0).view(torch.int64).item(), range(2))
        else:
            shared(lambda _: products.append((tiny * 1.0).view(torch.int64).item()), range(2), 2)
    finally:
        torch.set_flush_denormal(False)
    assert products == ([1, 1] if place == "once" else [0, 0])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_ctrl_c_at_any_moment_leaves_no_thread_and_no_count_behind() -> None:
    program = """
from janelia_core.ml._knn.small import at_once as small
small._PATIENCE = -1.0  # kernels are loaded now, not when torch has taken as long: llvmlite may crash at Ctrl-C
right, hit = truth(), 0
assert same(answers(), right)
for turn in range(60):
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    # Again after a while: Python drops an interrupt that comes while an object is finalised.
    signal.setitimer(signal.ITIMER_REAL, 0.0002 * (turn + 1), 3.0)
    try:
        while True:
            answers()
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        hit += 1
counts = []
for _ in range(3):
    thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    thread.start()
    thread.join()
from janelia_core.ml._runtime import standing
def alive():  # Python goes on listing a thread that an interrupt came before, though it was never started
    standing.dismiss()
    return sum(thread.is_alive() for thread in threading.enumerate())
deadline = time.monotonic() + 10
while alive() > 1 and time.monotonic() < deadline:
    time.sleep(0.01)
print(hit, counts, torch.get_num_threads(), alive(), same(answers(), right))
"""
    assert prints(program) == "60 [2, 2, 2] 2 1 True\n"


def test_a_team_called_off_while_it_starts_ends(two_torch_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    go = team._Start.go

    def interrupted(start: team._Start, count: int) -> None:
        go(start, count)
        raise KeyboardInterrupt

    monkeypatch.setattr(team._Start, "go", interrupted)
    with pytest.raises(KeyboardInterrupt), Workers(3) as workers:
        workers.each(str, range(3))
    monkeypatch.undo()
    assert (torch.get_num_threads(), count_of_new_threads()) == (2, 2)
    with Workers(3) as workers:
        assert workers.each(str, range(3)) == ["0", "1", "2"]
