"""Which kernels lie on disk, told without Numba: a mark for each use, an empty file in the folder of its cache.

A mark is a hint. Where it is missing, kernels are sought as if there were none; where it is wrong (after an update, on
another processor), they turn out to be missing. What was compiled is checked by itself (`kernel_cache`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent / "__pycache__"
_PREFIX = "janelia_core-"
LOCK = f"{_PREFIX}compiles.lock"


def folders() -> list[Path]:
    """Return where marks may be, as Numba seeks its cache: the first that can be written is the one to write to."""
    config: Any = getattr(sys.modules.get("numba"), "config", None)
    named = getattr(config, "CACHE_DIR", "") or os.environ.get("NUMBA_CACHE_DIR", "")
    home = Path(os.path.expanduser("~"))  # which a user of a container may not have
    of_user = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    of_user = Path(os.environ.get("XDG_CACHE_HOME") or of_user)
    return [*([Path(named).absolute()] if named else []), _HERE, of_user / "numba"]


def is_marked(use: Hashable) -> bool:
    """Tell whether the kernels of a use were all written to disk once."""
    return any(os.path.exists(folder / _name(use)) for folder in folders())  # False where one may not look


def mark(use: Hashable) -> None:
    """Say that the kernels of a use lie on disk."""
    with contextlib.suppress(OSError):
        if not is_marked(use) and (folder := writable()) is not None:
            (folder / _name(use)).touch()


def writable() -> Path | None:
    """Return the folder to write to, or None; it is made where it is missing."""
    for folder in folders():
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return None


def _name(use: Hashable) -> str:
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {use!r}".encode()).hexdigest()
    return f"{_PREFIX}{digest[:20]}.mark"
