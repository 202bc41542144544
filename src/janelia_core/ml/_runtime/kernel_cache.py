"""Numba's cache of compiled functions, made to be trusted and to fail without harm.

Files on disk may be empty, cut off or overwritten after a power cut or on a full disk, or belong to another writer:
two processes may give the same name to different data. So data carry a checksum, and what they were compiled for and
from: kernels are compiled into one another, so from all files of this package that theirs imports. What cannot be
read, for whatever reason, is compiled as if it were not there, and replaced; what cannot be written is said once.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.environment import Environment, _rebuild_env, lookup_environment
from numba.core.runtime.nrt import rtsys

from janelia_core.ml._runtime.loading import before_function, compiles

_DIGEST = hashlib.sha256
_FORMAT = "janelia-core 1"
_REBUILD = (_rebuild_env.__module__, _rebuild_env.__name__)
_JIT = "janelia_core.ml._runtime.jit"
_IMPORTS = re.compile(r"^from (janelia_core[\w.]*) import ([^(\n]+|\([^)]*\))", re.MULTILINE)

_folders: set[Path] = set()

before_writing: list[Callable[[], object]] = []
"""Called before a folder or a file is made."""


@functools.cache
def source_stamp(module: str) -> str:
    """Return a digest of the file of a module of this package and of all files of it that are imported there.

    Not of those that `jit` imports: they say when kernels are loaded, and do not go into them.
    """
    digests, left = {}, {module}
    while left:
        name = left.pop()
        digests[name], imported = _file(name)
        left |= set() if name == _JIT else imported - digests.keys()
    return _DIGEST(repr(sorted(digests.items())).encode()).hexdigest()


@functools.cache
def _file(module: str) -> tuple[str, set[str]]:
    """Return a digest of the text of a module, and the modules of this package that it imports."""
    source = sys.modules[module].__file__
    text = Path(source).read_text(encoding="utf-8") if source else ""
    names = set()
    for base, imported in _IMPORTS.findall(text):
        names |= {base} | {f"{base}.{name}" for name in re.findall(r"\w+", imported)}
    return _DIGEST(text.encode()).hexdigest(), names & sys.modules.keys()


def folders() -> frozenset[Path]:
    """Return where the functions of this process are kept."""
    return frozenset(_folders)


class Cache(FunctionCache):
    """The cache of one function.

    Its place on disk is sought when the function is first called by itself: many only go into others.

    Args:
        function: The function.
        failed: Called with what prevents data from being written.
    """

    def __init__(self, function: Callable[..., Any], failed: Callable[[Exception], None]) -> None:
        self._function, self._failed = function, failed
        self._stamp = source_stamp(function.__module__)  # now, while files on disk are those that were imported
        self._is_open: bool | None = None  # None: nobody has asked
        self._cache_path = ""

    def _open(self) -> bool:
        """Seek the place on disk, once; return whether there is one."""
        if self._is_open is None:
            try:
                _about_to_write()
                super().__init__(self._function)
                self._cache_file = _Files(self._cache_path, self._impl.filename_base, self._stamp)
                _folders.add(Path(self._cache_path))
                self._is_open = True
            except Exception as error:  # no folder, say: compilation can do without
                self._is_open = False
                self._failed(error)
        return self._is_open

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled for a signature, or None.

        Numba's own first makes ready to compile: it imports what it knows of NumPy, and SciPy for its linear algebra,
        which takes longer than all else. What is compiled already only wants the functions that count references.
        """
        before_function()
        found, is_open = None, self._open()
        with contextlib.suppress(Exception):  # of every kind, for damaged files may hold anything
            rtsys.initialize(target_context)
            if is_open:
                with self._guard_against_spurious_io_errors():
                    found = self._load_overload(sig, target_context)
        if found is None:
            compiles()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for a signature."""
        _about_to_write()
        try:
            if self._open():
                super().save_overload(sig, data)
        except Exception as error:
            self._failed(error)


def _about_to_write() -> None:
    for call in before_writing:
        call()


class _Files(IndexDataCacheFile):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._version = f"{self._version}, {_FORMAT}"  # of the index: files of Numba's own are not for us

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (self._source_stamp, key, data))

    def load(self, key: Any) -> Any:
        stamp, stored_key, data = super().load(key) or (None, None, None)
        return data if (stamp, stored_key) == (self._source_stamp, key) else None

    def _load_index(self) -> dict[Any, str]:
        try:
            index = super()._load_index()
        except Exception:
            return {}  # and what is saved next takes the place of a damaged one
        return index if isinstance(index, dict) else {}

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(_DIGEST(content).digest() + content)

    def _load_data(self, name: str) -> Any:
        with open(self._data_path(name), "rb") as file:
            stored = file.read()
        digest, content = stored[: _DIGEST().digest_size], stored[_DIGEST().digest_size :]
        return _Unpickler(io.BytesIO(content)).load() if _DIGEST(content).digest() == digest else None


class _Unpickler(pickle.Unpickler):
    """Reads what was compiled without the modules of Numba that only compilation wants.

    Compiled code keeps the module of each function that went into it, for looking up its globals: by the interpreter
    alone, never by machine code.
    """

    def find_class(self, module: str, name: str) -> Any:
        return _environment if (module, name) == _REBUILD else super().find_class(module, name)


def _environment(module: str, constants: list[Any], name: str) -> Any:
    """Return what `_rebuild_env` does, importing nothing of Numba."""
    if module in sys.modules or module.partition(".")[0] != "numba":
        return _rebuild_env(module, constants, name)
    environment = lookup_environment(name) or Environment({})
    environment.consts[:], environment.env_name = constants, name
    return environment
