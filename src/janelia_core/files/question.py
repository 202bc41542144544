"""What a search of files is asked: as callers say it, and checked, with its blocks laid out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from janelia_core.files.answer.conventions import Told, told_by
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.cast import cast
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.inputs.input import Input
from janelia_core.files.inputs.metric_names import meant_metric
from janelia_core.files.labels.open import Asked, Labels, opened_labels
from janelia_core.files.layout import FILES_MEMORY, Layout, make_layout, opening_memory, reading_memory
from janelia_core.files.parts.ranges import Part
from janelia_core.files.parts.record import OfPart, Record
from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._knn.face import checked_count
from janelia_core.ml._knn.metrics.mapped import bytes_of_point, check_columns
from janelia_core.sizes import parse_bytes

Range = tuple[int | None, int | None]
_LISTED = 16  # bytes of a neighbour: what running lists take beyond an answer, where these are kept of one block, too


@dataclass(frozen=True)
class Work:
    """What is searched.

    Attributes:
        queries: Their file.
        centres: Their file.
        first_query: Row of the file where the queries begin.
        first_ctr: Row of the file where the centres begin.
        layout: The blocks.
        metric: By which they are searched.
        told: Which distances are told of what is found.
        distances: Their dtype, or None where nobody asks for them.
        m: As for `knn_mc`, or None.
        device: Where blocks are searched; None: on the CPU.
        labels: Of centres and queries, which decide who may be found; None: all may.
        part: What the search is a part of; None: it is whole.
    """

    queries: VectorFile
    centres: VectorFile
    first_query: int
    first_ctr: int
    layout: Layout
    metric: str
    told: Told
    distances: torch.dtype | None
    m: int | None
    device: torch.device | None
    labels: Labels | None = None
    part: OfPart | None = None

    def searched(self) -> Work:
        """Return the same by the metric of which neighbours are found, which may not be the one that is told."""
        return replace(self, metric=self.told.metric)

    @property
    def d_bytes(self) -> tuple[int, int]:
        """The bytes of a query and of a centre in memory."""
        row, ctr = bytes_in_memory(self.queries, self.centres, self.metric, self.labels)
        return row + (0 if self.part is None else _LISTED * self.part.record.width), ctr


class Question(NamedTuple):
    """Arguments of `search_files` and its like, which say what they are, unchecked."""

    centres: Input
    queries: Input | None
    k: int
    metric: str | None = None
    dtype: torch.dtype | str | None = None
    device: torch.device | str | None = None
    max_memory: int | str = FILES_MEMORY
    m: int | None = None
    rows: Range = (None, None)
    ctr_rows: Range = (None, None)
    convention: str | None = None
    labels: Asked | None = None
    part: Part | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[VectorFile, VectorFile]]:
        """Open the files of centres and of queries; where these are the centres, once more, to count apart."""
        centres = (self.centres, "centres")
        queries = centres if self.queries is None else (self.queries, "queries")
        memory = parse_bytes(self.max_memory)
        bytes_taken = reading_memory(memory), opening_memory(memory)
        with contextlib.ExitStack() as stack:
            c, q = (
                stack.enter_context(cast(input.rounded(self.dtype).opened(role, *bytes_taken), self.dtype))
                for input, role in (centres, queries)
            )
            if c.d != q.d:
                raise VectorFileError(q.path, f"has {q.d} columns, but {c.path} has {c.d}")
            yield c, q

    def work(
        self,
        centres: VectorFile,
        queries: VectorFile,
        distances: bool,
        outers: Sequence[str] = ("queries", "centres"),
        labels: Labels | None = None,
    ) -> Work:
        """Check the arguments for open files, and lay the blocks out, one of `outers` in the outer loop."""
        metric = meant_metric(self.metric, centres)
        told = told_by(self.convention, metric)
        check_columns(metric, centres.d, "centres")
        first_query, n_smps = _range("rows", self.rows, queries)
        first_ctr, n_ctrs = _range("ctr_rows", self.ctr_rows, centres)
        but_self = self.queries is None
        k = checked_count("k", self.k, n_ctrs - but_self, f"the number of {'other ' * but_self}centres")
        dtype = result_dtype(queries, centres) if distances else None
        part, d_bytes = None, bytes_in_memory(queries, centres, metric, labels)
        if self.part is not None:
            part = self._of_part(self.part, (first_ctr, n_ctrs), metric, told, result_dtype(queries, centres))
            first_ctr, n_ctrs = self.part.range(first_ctr, n_ctrs)
            k, but_self, d_bytes = part.record.width, False, (d_bytes[0] + _LISTED * part.record.width, d_bytes[1])
        layout = make_layout(
            n_smps,
            n_ctrs,
            k,
            row_bytes=queries.row_bytes,
            ctr_bytes=centres.row_bytes,
            d_bytes=d_bytes,
            max_memory=parse_bytes(self.max_memory),
            but_self=but_self,
            outers=outers,
        )
        m = None if self.m is None else checked_count("m", self.m)
        device = _device(self.device)
        return Work(queries, centres, first_query, first_ctr, layout, metric, told, dtype, m, device, labels, part)

    def _of_part(
        self, part: Part, ctr_rows: tuple[int, int], metric: str, told: Told, distances: torch.dtype
    ) -> OfPart:
        """Return what a part is a part of; it lists all that it has where these are fewer than k."""
        n, but_self = part.range(*ctr_rows)[1], self.queries is None
        record = Record.of(told.metric, min(self.k + but_self, n), n, distances)
        return OfPart(part, ctr_rows, self.k, but_self, metric, self.convention, record)

    @contextlib.contextmanager
    def labelled(self, centres: VectorFile, queries: VectorFile) -> Iterator[Labels | None]:
        """Open the labels of open files, if the search goes by any."""
        if self.labels is None:
            yield None
        else:
            with opened_labels(self.labels, centres, queries) as labels:
                yield labels


def bytes_in_memory(queries: VectorFile, centres: VectorFile, metric: str, labels: Labels | None) -> tuple[int, int]:
    """Return the bytes of a query and of a centre in memory, with their labels."""
    mapped = bytes_of_point(metric)
    more = (0, 0) if labels is None else labels.row_bytes
    return (
        queries.d * queries.dtype.itemsize + mapped + more[0],
        centres.d * centres.dtype.itemsize + mapped + more[1],
    )


def _device(device: torch.device | str | None) -> torch.device | None:
    """Return the device blocks are sent to, or None for the CPU, where they are."""
    try:
        found = torch.empty(0, device=device).device
        torch.zeros(1, device=found).cpu()  # no number comes back from "meta"
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device must be one that torch can use here, got {device}: {error}") from error
    return None if found.type == "cpu" else found


def _range(name: str, rows: Range, file: VectorFile) -> tuple[int, int]:
    """Return where a range of rows begins and how many it has.

    Raises:
        ValueError: It has none, or some that the file does not have; the message calls it `name`.
    """
    start, stop = rows[0] or 0, file.n if rows[1] is None else rows[1]
    if not 0 <= start < stop <= file.n:
        raise ValueError(
            f"{name} must lie within the {file.n} rows of {file.path} and not be empty, got {start}:{stop}"
        )
    return start, stop - start
