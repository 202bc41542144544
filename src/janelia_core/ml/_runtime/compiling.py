"""What a process does that another started to compile kernels (`apart`): rehearse, and say so.

It leaves the processor to others, and writes nowhere but into the folder of the cache. Where that has gone (a temporary
folder), it ends at once, and does not make it anew.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import sys
from pathlib import Path

from janelia_core.ml._runtime import jit, kernel_cache
from janelia_core.ml._runtime.kernels import are_given_up
from janelia_core.ml._runtime.marks import mark

_LONGEST = 300.0  # seconds of a rehearsal, or without one
_NICE = 5
_DONE, _FAILED = b"+", b"-"


def serve(lock: int) -> None:
    """Rehearse what comes on standard input until its end, and end.

    Args:
        lock: A file in the folder of the cache, open.
    """
    _make_way()
    kernel_cache.before_writing.append(lambda: _end_without(lock))
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a rehearsal may print is no answer
    while True:
        faulthandler.dump_traceback_later(_LONGEST, exit=True)  # nobody reads what it says
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            os._exit(0)
        answer = _DONE if _rehearse(request) else _FAILED
        with contextlib.suppress(OSError):  # whoever asked has ended: all the same, the cache is filled
            os.write(answers, answer)


def _make_way() -> None:
    """Lower the priority; where memory is short, be the first to go."""
    os.nice(_NICE)
    for file, value in (("autogroup", _NICE), ("oom_score_adj", 1000)):  # Linux shares out by sessions first
        with contextlib.suppress(OSError):
            Path("/proc/self", file).write_text(str(value))


def _rehearse(request: bytes) -> bool:
    """Rehearse a use, and mark it; return whether its kernels lie on disk."""
    try:
        use, rehearse = pickle.loads(request)
        rehearse()
    except Exception:  # the process that asked tries by itself, and says what goes wrong
        return False
    if are_given_up() or not jit.are_kept():
        return False
    mark(use)
    return True


def _end_without(lock: int) -> None:
    """End this process if the folder of the cache is gone."""
    if os.fstat(lock).st_nlink == 0:
        os._exit(0)
