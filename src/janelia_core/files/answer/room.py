"""What the disk must have for an answer, known before the search."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from janelia_core.files.layout import Layout
from janelia_core.sizes import show_bytes

FACTS_BYTES = 16  # of a block's running lists, before them
_AS_LARGE = (
    "npy",
    "npz",
    "ivecs",
    "fvecs",
    "ibin",
    "bin",
    "fbin",
    "hdf5",
    "pt",
    "safetensors",
    "ann-benchmarks",
    "rangeres",
)
"""Formats whose files take at least what their numbers take."""


class Need(NamedTuple):
    """Bytes that will be written into a folder, and what for."""

    folder: Path
    bytes: int
    what: str


def region_bytes(layout: Layout, itemsize: int) -> int:
    """Return what the running lists of a block of queries take on disk, with distances of so many bytes each."""
    return FACTS_BYTES + layout.row_block * layout.kept * (24 + itemsize)


def n_regions(layout: Layout) -> int:
    """Return of how many blocks of queries running lists are kept at a time."""
    return layout.n_row_blocks if layout.outer == "centres" and layout.n_row_blocks > 1 else 1


def unfinished_bytes(layout: Layout, itemsize: int, record_bytes: int = 0) -> dict[str, int]:
    """Return the sizes of the files in the folder of an unfinished search.

    Args:
        layout: Its blocks.
        itemsize: Bytes of a distance; 0: there are none.
        record_bytes: Of a row's lists, where the search is one of a part; 0: it is not.
    """
    sizes = {"lists": layout.n_smps * record_bytes} if record_bytes else {"indices": layout.n_smps * layout.k * 8}
    if itemsize and not record_bytes:
        sizes["distances"] = layout.n_smps * layout.k * itemsize
    if layout.n_ctr_blocks > 1:
        sizes["state"] = 2 * n_regions(layout) * region_bytes(layout, itemsize)
    return sizes


def file_bytes(format: str, numbers: int) -> int:
    """Return what a file of numbers that take so many bytes takes at least: text and compressed files may take less."""
    return numbers if format in _AS_LARGE else 0


def there_already(folder: Path) -> int:
    """Return how much of the disk the files in the folder of an unfinished search take."""
    found = 0
    for name in ("indices", "distances", "lists", "state"):
        try:
            status = os.stat(folder / name)
        except OSError:
            continue
        # Windows does not say what is allocated.
        found += getattr(status, "st_blocks", status.st_size // 512) * 512
    return found


def check_room(needs: Iterable[Need]) -> None:
    """Refuse to begin what does not fit, all that is written to one disk taken together.

    Raises:
        OSError: A disk has less room.
    """
    disks: dict[int, list[Need]] = {}
    for need in needs:
        if need.bytes > 0:
            disks.setdefault(need.folder.stat().st_dev, []).append(need)
    for together in disks.values():
        needed, disk = sum(need.bytes for need in together), shutil.disk_usage(together[0].folder)
        if disk.total > 0 and needed > disk.free:
            parts = ", ".join(f"{show_bytes(need.bytes)} for {need.what}" for need in together)
            told = f"no room on the disk: {together[0].folder} has {disk.free} bytes free, but {needed} are needed"
            raise OSError(errno.ENOSPC, f"{told} ({parts}); take another disk (for - by TMPDIR)")
