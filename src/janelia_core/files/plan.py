"""What a search of files would do, without doing it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from janelia_core.files.formats.registry import Where
from janelia_core.files.inputs.input import Input
from janelia_core.files.layout import FILES_MEMORY, Layout
from janelia_core.files.question import Question, Range
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._runtime.machine import this_machine


@dataclass(frozen=True)
class FilePlan:
    """What a search of files would do.

    Attributes:
        layout: Its blocks, and the bytes that it reads.
        block: What a block of queries goes through for a block of centres.
    """

    layout: Layout
    block: Plan

    def __str__(self) -> str:
        more = ", one neighbour more as each row finds itself" if self.layout.but_self else ""
        return f"{self.layout}\neach pair of blocks{more}:\n  " + str(self.block).replace("\n", "\n  ")


def plan_files(
    centres: Where | Input,
    queries: Where | Input | None = None,
    *,
    k: int,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    max_memory: int | str = FILES_MEMORY,
    m: int | None = None,
    rows: Range = (None, None),
    ctr_rows: Range = (None, None),
    formats: tuple[str | None, str | None] = (None, None),
) -> FilePlan:
    """Plan what `search_files` does with these arguments, from the files' headers alone.

    Args:
        centres: File of vectors (n_ctrs, d); FILE::NAME for one of several arrays; or an `Input`.
        queries: File of vectors (n_smps, d); None: the centres, none its own neighbour.
        k: Neighbours of each query.
        dtype: A floating dtype to which all numbers are rounded first; None: as stored.
        device: Where blocks are searched; None: on the CPU.
        max_memory: Bytes, or a text such as "2GiB", that blocks and workspace take together.
        m: At most so many centres' scores at a time; None: as many as the memory allows.
        rows: Queries from, to (exclusive) row numbers; None: from the first, to the last.
        ctr_rows: Centres from, to (exclusive) row numbers; None: from the first, to the last.
        formats: Of centres and queries.
    """
    inputs = Input.of(centres, formats[0]), None if queries is None else Input.of(queries, formats[1])
    question = Question(*inputs, k, "euclidean", dtype, device, max_memory, m, rows, ctr_rows)
    with question.opened() as (c, q):
        work = question.work(c, q, distances=True)
        layout = work.layout
        block = make_plan(
            layout.row_block,
            layout.ctr_block,
            c.d,
            min(layout.kept, layout.ctr_block),
            layout.ctr_block if m is None else m,
            machine=this_machine(work.device or torch.device("cpu")),
            float32=c.dtype == q.dtype == torch.float32,
            budget=layout.workspace,
        )
        return FilePlan(layout, block)
