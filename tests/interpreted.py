"""Kernels of Triton without a GPU: a function of a test is called in a process where Triton interprets them.

Whether a kernel is compiled or interpreted is decided where it is decorated, once for a process. This one is a fork of
one that has torch and this package but not Triton (tests/fresh_process.py); in it TRITON_INTERPRET is set before the
function's module is imported, so that module may import kernels as it likes. A call takes about a second more than what
it does: ask several questions in one.

The interpreter is silently wrong for products in bfloat16, runs no inline assembly, and runs one program after the
other, so it sees no race.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar, cast

import fresh_process

P = ParamSpec("P")
T = TypeVar("T")


def interpreted(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Return what a function answers where Triton interprets kernels; if it fails, fail with what it raised there."""
    call = pickle.dumps((arguments, named))
    error, answer = fresh_process.forked(_answer, (function.__module__, function.__name__, call))
    if error:
        raise AssertionError(f"{function.__name__}, where Triton interprets kernels:\n{error}")
    return cast(T, pickle.loads(answer))


def _answer(to: Connection, module: str, name: str, call: bytes) -> None:
    try:
        if "triton" in sys.modules:
            raise RuntimeError("Triton was imported before it was told to interpret")
        os.environ["TRITON_INTERPRET"] = "1"
        function = getattr(import_module(module), name)
        arguments, named = pickle.loads(call)
        told = "", pickle.dumps(function(*arguments, **named))
    except BaseException:
        told = traceback.format_exc(), b""
    to.send(told)
