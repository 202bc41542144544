"""Cases of the fuzz of files: a damaged file, opened and watched."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from fuzz_file_damage import damaged
from fuzz_file_samples import Files, samples

from janelia_core.extras import MissingExtraError
from janelia_core.files import Input, VectorFileError, open_vectors
from janelia_core.files.formats.registry import format_named
from janelia_core.suffixes import FORMATS, READ_ONLY

ROLES = ("", "centres", "queries", "indices", "distances")
LONGEST, MOST_SECONDS, MOST_MEMORY = 300, 1.0, 64 << 20
READ = 8 << 20  # bytes of rows that are asked for at most


class Case(NamedTuple):
    """One damaged file, and what it is opened as."""

    format: str
    number: int
    files: Files
    role: str


class Fuzz:
    """Sound files of the formats, and the cases made of them."""

    def __init__(self, formats: list[str], seed: int) -> None:
        self.formats, self.seed = formats, seed
        self._samples = {format: samples(format) for format in formats}

    def case(self, number: int) -> Case:
        """Return the case of a number: formats take turns."""
        return self.of(self.formats[number % len(self.formats)], number)

    def first(self, count: int) -> Iterator[tuple[int, Case]]:
        """Yield the first cases with their numbers."""
        return ((number, self.case(number)) for number in range(count))

    def of(self, format: str, number: int) -> Case:
        """Return the case of a format and a number."""
        r = Random(f"{self.seed} {format} {number}")
        files = damaged(r, format, r.choice(self._samples[format]))
        return Case(format, number, files, r.choice(ROLES))


def written(case: Case, folder: Path) -> Path:
    """Write the files of a case, over those of the case before."""
    path = folder / f"a.{case.format}"
    if "" in case.files:
        path.write_bytes(case.files[""])
        return path
    shutil.rmtree(path, ignore_errors=True)
    for name, content in case.files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def opened(case: Case, path: Path) -> bool:
    """Open the file and read rows at both ends."""
    options = format_named(case.format).options if case.format in FORMATS | READ_ONLY else ()
    raw = {"shape": (None, 3), "stored": "float32"} if "shape" in options else {}
    with open_vectors(Input(path, **raw), role=case.role) as file:  # type: ignore[arg-type]
        rows = min(3, file.n, READ // max(1, file.d * file.dtype.itemsize))
        if rows:
            file.read(0, rows)
            file.read(file.n - rows, file.n)
            file.take(torch.tensor([file.n - 1, 0]))
    return True


class Watch:
    """What a process writes, warns of and takes, from one case to the next."""

    def __init__(self, output: int | None) -> None:
        self._output, self._warned = output, list[str]()
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: self._warned.append(str(message))

    def broken(self, case: Case, path: Path) -> tuple[bool, str]:
        """Return whether a case was opened, and the rule that it breaks, "" if none."""
        self._warned.clear()
        before, began = _memory(reset=True), time.process_time()
        ok, told = False, ""
        try:
            ok = opened(case, path)
        except (VectorFileError, OSError, MissingExtraError) as error:
            text = str(error)
            if len(text) > LONGEST or not text.isprintable():
                told = f"message of {len(text)} characters: {text[:400]!r}"
        except BaseException as error:
            told = f"{type(error).__name__}: {str(error)[:300]!r}"
        took, grew = time.process_time() - began, _memory() - before
        if took > MOST_SECONDS:
            told = told or f"takes {took:.1f} s"
        if grew > MOST_MEMORY:
            told = told or f"takes {grew >> 20} MiB"
        if self._warned:
            told = told or f"warns: {self._warned[0][:200]!r}"
        return ok, told or self._written()

    def _written(self) -> str:
        if self._output is None or not os.fstat(self._output).st_size:
            return ""
        text = os.pread(self._output, 300, 0)
        os.ftruncate(self._output, 0)
        os.lseek(self._output, 0, os.SEEK_SET)
        return f"writes {text!r}"


def _memory(reset: bool = False) -> int:
    """Return the resident bytes of the process, or the most that they were since the last call that resets them."""
    try:
        if reset:
            with open("/proc/self/clear_refs", "wb", buffering=0) as file:
                file.write(b"5")
        with open("/proc/self/status", "rb", buffering=0) as file:
            text = file.read()
        at = text.index(b"VmRSS:" if reset else b"VmHWM:") + 6
        return int(text[at : text.index(b"kB", at)]) << 10
    except OSError:  # not Linux
        return 0
