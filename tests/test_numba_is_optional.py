"""Numba is an accelerator: absent, broken or switched off, its cache damaged, calls answer with one warning at most."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable

import pytest
import torch

import fresh_process
from janelia_core.ml._knn import find as find_module
from janelia_core.ml._runtime import kernels
from janelia_core.ml.extra_torch_functions import knn_mc

CALLS = """
import os, sys, warnings
import torch
from janelia_core.ml import PiecewiseLinear, knn, log_cosh
from janelia_core.ml._knn.merge import Running, extend
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml.extra_torch_functions import knn_mc

torch.manual_seed(0)

def search(n, m, d):
    x, c = torch.randn(n, d), torch.randn(m, d)
    right = (x.double()[:, None] - c.double()).square().sum(-1).topk(5, largest=False).indices.T
    assert torch.equal(knn_mc(x, c, 5, m), right)

def differentiate():
    x, c = torch.randn(3000, 8, requires_grad=True), torch.randn(400, 8)
    distances, indices = knn(x, c, 3)
    distances.sum().backward()
    unit = (x.detach()[:, None] - c[indices]) / distances.detach()[..., None]
    torch.testing.assert_close(x.grad, unit.sum(1))

def merge():
    x, c = torch.randn(300, 8), torch.randn(4000, 8)
    running = Running.empty(300, 5)
    for first in (0, 2000):
        extend(running, x, c[first : first + 2000], first, Points(c), max_memory=1 << 26)
    assert torch.equal(running.indices.T, knn_mc(x, c, 5, 4000))

def cosh():
    x = torch.randn(200_000, requires_grad=True)
    y = log_cosh(x)
    y.sum().backward()
    torch.testing.assert_close(y, x.double().cosh().log().float())
    torch.testing.assert_close(x.grad, x.detach().tanh())

FEW = [lambda: search(300, 5000, 16), cosh]
ALL = [lambda: search(50, 60, 3), *FEW, lambda: search(3000, 3000, 3), differentiate, merge]

def warned(calls):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for call in calls:
            call()
    return [f"{w.category.__name__}: {w.message}" for w in caught]
"""


def outcome(program: str, *arguments: object) -> str:
    run = fresh_process.run(CALLS + program, *arguments, timeout=200)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        ("ImportError('Numba needs NumPy 2.0 or less')", "ALL"),
        ("AttributeError('_ARRAY_API not found')", "FEW"),
        ("OSError('libllvmlite.so: cannot open shared object file')", "FEW"),
        ("SystemError('initialization failed')", "FEW"),
    ],
)
def test_a_broken_numba_is_said_once_and_torch_answers(error: str, calls: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(f"raise {error}")
    program = f"sys.path.insert(0, sys.argv[1]); found = warned({calls}); print(len(found), found[0])"
    said = error.replace("('", ": ").removesuffix("')")
    assert outcome(program, tmp_path).startswith(f"1 RuntimeWarning: Compiled kernels cannot be used ({said}). Torch")


def test_a_numba_without_what_is_wanted_is_said_once(tmp_path: pathlib.Path) -> None:
    (tmp_path / "numba.py").write_text("")
    program = "sys.path.insert(0, sys.argv[1]); found = warned(FEW); print(len(found), found[0])"
    assert outcome(program, tmp_path).startswith("1 RuntimeWarning: Compiled kernels cannot be used (AttributeError: ")


@pytest.mark.parametrize(
    ("how", "calls"),
    [
        ("os.environ['NUMBA_DISABLE_JIT'] = '1'", "ALL"),
        ("import numba; numba.config.DISABLE_JIT = 1", "FEW"),
        ("sys.modules['numba'] = None", "FEW"),
    ],
)
def test_numba_that_is_switched_off_or_absent_is_not_worth_a_word(how: str, calls: str) -> None:
    assert outcome(f"{how}\nprint(warned({calls}))") == "[]\n"


FAILS = """
import numba
from numba.core.errors import TypingError
def fail(*_, **__):
    raise {error}
numba.core.dispatcher._FunctionCompiler.compile = fail
numba.core.caching.FunctionCache._load_overload = lambda *_: None
found = warned(FEW)
print(len(found), found[0][:70])
"""


@pytest.mark.parametrize("error", ["TypingError('no\\nsuch')", "AssertionError()"])
def test_what_the_compiler_raises_reaches_nobody(error: str) -> None:
    said = f"{error.partition('(')[0]}: "
    assert outcome(FAILS.format(error=error)).startswith(f"1 RuntimeWarning: Compiled kernels cannot be used ({said}")


def test_a_function_whose_compilation_fails_later_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
from numba.core import dispatcher
assert warned(FEW[:1]) == []
compile = dispatcher.Dispatcher.compile
def fail(self, sig):
    if "pair_kernels" in self.py_func.__module__ or "log_cosh" in self.py_func.__module__:
        raise RuntimeError("not for this processor")
    return compile(self, sig)
dispatcher.Dispatcher.compile = fail
print(len(warned(ALL)))
"""
    assert outcome(program) == "1\n"


def test_what_a_caller_raises_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(rows: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        raise ImportError("a mask that wants what is not there")

    with pytest.raises(ImportError, match="a mask that wants"):
        find_module.find(torch.randn(30, 3), torch.randn(40, 3), 2, allowed=refuse)
    with pytest.raises(ValueError, match="k"):
        knn_mc(torch.randn(3, 2), torch.randn(3, 2), 4, 3)
    assert kernels.may_serve()


KERNEL = """
from janelia_core.ml._runtime.jit import jit

@jit
def total(values):
    return values.sum()

@jit
def last(values):
    return values[-1]
"""
RUN = """
import os, sys, warnings
import numpy as np
os.environ["NUMBA_CACHE_DIR"] = sys.argv[2]
sys.path.insert(0, sys.argv[1])
{before}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from kernel_of_a_test import last, total
    found = total(np.arange(5)), last(np.arange(5))
hits = [sum(kernel.stats.cache_hits.values()) for kernel in (total, last)]
print(*found, hits, [str(w.message)[:41] for w in caught])
"""
FRESH, KEPT = "10 4 [0, 0] []\n", "10 4 [1, 1] []\n"
SAID = "10 4 [0, 0] ['Compiled kernels cannot be kept on disk (']\n"
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: pathlib.Path) -> Run:
    """Call two small kernels in a new process; return their answers, which were found on disk, and warnings."""
    (tmp_path / "kernel_of_a_test.py").write_text(KERNEL)

    def run_(before: str = "", cache: object = tmp_path / "cache") -> str:
        ended = fresh_process.run(RUN.format(before=before), tmp_path, cache)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    return run_


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def zeros(path: pathlib.Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def folder(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [
    lambda path: path.write_bytes(b""),
    cut,
    flip,
    zeros,
    lambda path: path.write_bytes(os.urandom(3000)),
    lambda path: path.write_bytes(b"\x80\x04N."),  # a pickle, of nothing
    lambda path: path.unlink(),
]


def test_damaged_files_are_compiled_anew_and_replaced(run: Run, tmp_path: pathlib.Path) -> None:
    assert run() == FRESH
    for number, damage in enumerate(DAMAGES):
        for path in (*tmp_path.rglob("*total*.nbi"), *tmp_path.rglob("*last*.nbc")):
            damage(path)
        assert run() == FRESH, number
        assert run() == KEPT, number


def test_code_that_has_the_name_of_another_is_not_taken(run: Run, tmp_path: pathlib.Path) -> None:
    assert run() == FRESH
    one, other = sorted(tmp_path.rglob("*.nbc"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert run() == FRESH
    assert run() == KEPT


def test_a_folder_in_the_place_of_a_file_is_said_once(run: Run, tmp_path: pathlib.Path) -> None:
    assert run() == FRESH
    for path in tmp_path.rglob("*.nbi"):
        folder(path)
    assert run() == run() == SAID


@pytest.mark.parametrize("number", ["ENOSPC", "EROFS"])
def test_what_cannot_be_written_is_said_once(number: str, run: Run) -> None:
    before = f"""
import errno
from numba.core.caching import IndexDataCacheFile
def full(*_):
    raise OSError(errno.{number}, os.strerror(errno.{number}))
IndexDataCacheFile._open_for_write = full
"""
    assert run(before) == SAID
    assert run() == FRESH


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
@pytest.mark.parametrize("most", [0, 1000])
def test_files_that_may_not_grow_are_no_error(most: int, run: Run) -> None:
    before = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))"
    assert run(before) == SAID
    assert run() == FRESH


NO_FOLDER = "import numba.core.caching as c; c.CacheImpl._locator_classes = [c.UserProvidedCacheLocator]"


def test_a_file_in_the_place_of_the_folder_is_said_once(run: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "cache").write_text("")
    assert run(NO_FOLDER) == SAID


OF_TWO_FILES = """
import os, pathlib, sys, types
os.environ["NUMBA_CACHE_DIR"] = sys.argv[1]
import numpy as np
folder = pathlib.Path(sys.argv[1]) / "toy"
folder.mkdir(exist_ok=True)
heads = {"inner": "", "outer": "from janelia_core.toy.inner import STEP, inner"}
bodies = {"inner": "a.sum() + STEP", "outer": "inner(a) + 10 * STEP"}
for name, body in bodies.items():
    step = f"STEP = {sys.argv[2]}" if name == "inner" else heads[name]
    jit = "from janelia_core.ml._runtime.jit import jit"
    text = "\\n".join([jit, step, "@jit", f"def {name}(a):", f"    return {body}", ""])
    (folder / f"{name}.py").write_text(text)
    os.utime(folder / f"{name}.py", (1e9, 1e9))  # as an archive with times of its own leaves it
sys.dont_write_bytecode = True
toy = sys.modules["janelia_core.toy"] = types.ModuleType("janelia_core.toy")
toy.__path__ = [str(folder)]
from janelia_core.toy.outer import outer
print(outer(np.zeros(3)), len(outer.stats.cache_hits))
"""


def test_a_kernel_is_compiled_anew_when_a_file_that_it_was_compiled_from_changes(tmp_path: pathlib.Path) -> None:
    def called(step: int) -> str:
        done = fresh_process.run(OF_TWO_FILES, tmp_path, step)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert [called(step) for step in (1, 1, 2)] == ["11.0 0", "11.0 1", "22.0 0"]
