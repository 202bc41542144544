"""Programs in a fresh process that has torch at once: a fork of one that imported the package and did nothing else.

Importing takes five seconds of the six that most such programs take.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

PRELOAD = ["janelia_core.cli", "janelia_core.ml", "janelia_core.files"]
# Freed blocks go back at once, so that where memory is measured no earlier peak hides a later one.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


class Run(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(program: str, *arguments: object, timeout: float = 300) -> Run:
    """Run a program as `python -c` does, and return how it ended and what it printed."""
    return Run(*forked(_work, (program, [str(argument) for argument in arguments]), timeout))


def forked(function: Callable[..., None], arguments: tuple[object, ...], timeout: float = 300) -> Any:
    """Return what a function sends to its first argument, a connection, in a fork that does nothing else."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(PRELOAD)
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(its, *arguments))
    before = os.environ.copy()
    os.environ.update(ENVIRONMENT)  # for the process that is forked, which the first call starts
    try:
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    its.close()
    try:
        ended = mine.poll(timeout)
        result, why = (mine.recv(), "") if ended else (None, f"ran longer than {timeout} seconds")
    except EOFError:
        process.join()
        result, why = None, f"died, with exit code {process.exitcode}"
    finally:
        process.kill()
        process.join()
        process.close()
        mine.close()
    if why:
        raise RuntimeError(why)
    return result


def _work(to: Connection, program: str, arguments: list[str]) -> None:
    sys.argv = ["-c", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            err.write("" if isinstance(end.code, int | None) else f"{end.code}\n")
        except BaseException:
            traceback.print_exc()
            code = 1
    to.send((code, out.getvalue(), err.getvalue()))
