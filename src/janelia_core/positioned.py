"""Reading and writing at a place of a file, also where the system has no calls for that."""

from __future__ import annotations

import io
import os
import threading

_MOST = 1 << 30  # Linux moves at most 2 GiB at a time
_lock = threading.Lock()  # of the place that all users of a file share, where seeking moves it


def read_at(file: int, target: memoryview, at: int) -> int:
    """Fill target from byte `at` of the file on; return how many bytes there were."""
    done = 0
    while done < len(target):
        got = _read(file, target[done : done + _MOST], at + done)
        if got == 0:
            break
        done += got
    return done


def write_all(file: int, data: bytes | memoryview, at: int | None) -> None:
    """Write all of data at a place, or at the end of a file opened for appending."""
    view = memoryview(data)
    done = 0
    while done < len(view):
        part = view[done : done + _MOST]
        done += os.write(file, part) if at is None else _write(file, part, at + done)


def _read(file: int, target: memoryview, at: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file, [target], at)
    with _lock, io.FileIO(file, "rb", closefd=False) as stream:
        stream.seek(at)
        return stream.readinto(target) or 0


def _write(file: int, data: memoryview, at: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, at)
    with _lock:
        os.lseek(file, at, os.SEEK_SET)
        return os.write(file, data)
