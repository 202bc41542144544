"""How far a call raises the memory that the process really holds."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def with_peak_growth(call: Callable[[], T]) -> tuple[T, int | None]:
    """Run a call and measure the peak of the process's resident memory meanwhile.

    Memory that was freed earlier but kept by the C allocator would hide what the call uses: it is given back
    to the system first.

    Returns:
        What the call returned, and the bytes by which resident memory peaked above its level before the
        call, every allocator and thread counted; None where the system has no /proc/self/clear_refs, which
        is Linux's.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR_REFS.write_text("5")  # sets the high-water mark to the present level: man 5 proc
    except OSError:  # no Linux, or a sandbox that forbids it: the caller sees None
        return call(), None
    before = _resident("VmRSS")
    result = call()
    return result, max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    if match is None:
        raise OSError(f"{STATUS} has no line {field}")
    return 1024 * int(match[1])
