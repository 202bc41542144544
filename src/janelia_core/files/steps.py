"""The searches that a search of files is made of: what is planned for pairs of blocks, and their kernels.

What `plan_files` tries and what the search has loaded is the same, so that the screens which the one tells run.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from janelia_core.files.question import Work
from janelia_core.ml._knn.trial import Tried
from janelia_core.ml._runtime.loading import waiting

_PER_PAIR, _PER_COORDINATE = 2.5e-9, 1e-11  # seconds for torch operations on two cores; measured
_LONG = 20.0  # seconds: as long as it may take to compile what a search wants


@contextlib.contextmanager
def kernels_loaded(work: Work) -> Iterator[None]:
    """Have the kernels of all steps loaded before the first: those on disk always, others where that is worth it.

    Compiling is waited for where torch operations would take longer for the whole search; else these search meanwhile.
    """
    empty = (torch.empty(0, file.d, dtype=file.dtype) for file in (work.queries, work.centres))
    long = _by_torch(work) > _LONG
    with waiting() if long else contextlib.nullcontext():
        for tried in tries(work, *empty):
            tried.await_kernels()
        yield


def _by_torch(work: Work) -> float:
    layout, d = work.layout, work.centres.d
    return layout.n_smps * layout.n_ctrs * (_PER_PAIR + _PER_COORDINATE * d)


def tries(work: Work, x: Tensor, c: Tensor) -> list[Tried]:
    """Return a search of the first pair of blocks, and others of other sizes of which something else is planned."""
    found: dict[tuple[str, ...], Tried] = {}
    here = [values if work.device is None else values.to(work.device) for values in (x, c)]
    for sizes in _sizes(work):
        k = min(work.layout.kept, sizes[1])
        tried = Tried(
            here[0][: sizes[0]],
            here[1][: sizes[1]],
            sizes,
            k,
            m=work.m,
            max_memory=work.layout.workspace,
            metric=work.metric,
        )
        found.setdefault(tried.names, tried)
    return list(found.values())


def _sizes(work: Work) -> Iterator[tuple[int, int]]:
    """Yield the sizes of pairs of blocks, the usual one first; the last blocks may be smaller."""
    layout = work.layout
    ends = [
        dict.fromkeys((block, n - (count - 1) * block))
        for n, block, count in (
            (layout.n_smps, layout.row_block, layout.n_row_blocks),
            (layout.n_ctrs, layout.ctr_block, layout.n_ctr_blocks),
        )
    ]
    yield from itertools.product(*ends)
