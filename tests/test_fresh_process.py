"""A program in a fresh process ends, prints and fails as it would by itself."""

from __future__ import annotations

import os

import pytest

import fresh_process
from fresh_process import Run

HOLDS = """
import sys
from janelia_core.demo.resident_memory import with_peak_growth
print(with_peak_growth(lambda: b"1" * int(sys.argv[1]) and None)[1])
"""


@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("import sys; print(__name__, sys.argv)", Run(0, "__main__ ['-c', '3', 'a']\n", "")),
        ("import sys; print('no', file=sys.stderr); sys.exit(2)", Run(2, "", "no\n")),
        ("raise SystemExit('no')", Run(1, "", "no\n")),
        ("raise SystemExit", Run(0, "", "")),
    ],
)
def test_it_takes_arguments_prints_and_ends(program: str, ended: Run) -> None:
    assert fresh_process.run(program, 3, "a") == ended


def test_an_error_is_a_traceback_and_1() -> None:
    run = fresh_process.run("1 / 0")
    assert run.returncode == 1
    assert run.stderr.startswith("Traceback")
    assert run.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_a_death_and_too_long_a_run_are_errors() -> None:
    with pytest.raises(RuntimeError, match=r"exit code -?9"):
        fresh_process.run("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(RuntimeError, match=r"longer than 0\.1 seconds"):
        fresh_process.run("import time; time.sleep(60)", timeout=0.1)


def test_nothing_of_one_run_is_left_to_the_next_nor_to_the_caller() -> None:
    before = dict(os.environ)
    fresh_process.run("import os, torch; torch.mark = 1; os.environ['MARK'] = '1'")
    assert (
        fresh_process.run("import os, torch; print(hasattr(torch, 'mark'), 'MARK' in os.environ)")[1] == "False False\n"
    )
    assert dict(os.environ) == before


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_what_it_holds_for_a_moment_is_measured() -> None:
    held = 50 << 20
    assert abs(int(fresh_process.run(HOLDS, held).stdout) - held) < 1 << 20
