"""Numba's cache of compiled functions, made to be trusted and to fail without harm.

Files on disk may be empty, cut off or overwritten after a power cut or on a full disk, or belong to another writer:
two processes may give the same name to different data. So data carry a checksum, and what they were compiled for and
from: kernels are compiled into one another, so from all files of this package that theirs imports. What cannot be
read, for whatever reason, is compiled as if it were not there, and replaced; what cannot be written is said once.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile

_DIGEST = hashlib.sha256
_FORMAT = "janelia-core 1"
_IMPORTS = re.compile(r"^from (janelia_core[\w.]*) import ([^(\n]+|\([^)]*\))", re.MULTILINE)


def source_stamp(module: str) -> str:
    """Return a digest of the file of a module of this package and of all files of it that are imported there."""
    digests, left = {}, {module}
    while left:
        name = left.pop()
        digests[name], imported = _file(name)
        left |= imported - digests.keys()
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


class Cache(FunctionCache):
    """The cache of one function.

    Args:
        function: The function.
        failed: Called with what prevents data from being written.
    """

    def __init__(self, function: Callable[..., Any], failed: Callable[[Exception], None]) -> None:
        super().__init__(function)
        stamp = source_stamp(function.__module__)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)
        self._failed = failed

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled for a signature, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # of every kind, for damaged files may hold anything
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for a signature."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self._failed(error)


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
        return pickle.loads(content) if _DIGEST(content).digest() == digest else None
