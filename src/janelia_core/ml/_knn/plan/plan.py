"""The plan of a search: which screen, which blocks, how many bytes. Printable; made before a tensor is touched."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from janelia_core.ml._knn.plan.demand import Products
from janelia_core.ml._knn.problem import MEBIBYTE, Problem


class Crew(NamedTuple):
    """Who works.

    Attributes:
        workers: Threads that work on blocks of rows.
        pooled: Work in threads that run torch single-threaded, else in the calling thread.
        chunk: Coordinates a stage holds at a time, in each worker.
    """

    workers: int
    pooled: bool
    chunk: int


class Blocks(NamedTuple):
    """How many rows and centres a worker takes at a time.

    Attributes:
        rows: Rows of x that go through the screen together.
        verified_rows: Rows whose candidates are verified and settled together.
        fallback_rows: Rows that the exhaustive rung takes together.
        fallback_ctrs: Centres that the exhaustive rung takes together.
        fallback_pairs: Candidates that the rungs above the screen verify together.
        escalated_rows: Rows searched together within a proven radius.
    """

    rows: int
    verified_rows: int
    fallback_rows: int
    fallback_ctrs: int
    fallback_pairs: int
    escalated_rows: int


@dataclass(frozen=True)
class Plan:
    """What a search will do.

    Attributes:
        problem: What is asked.
        screen: The name of a screen (`choose.SCREENS`), or "none": all are verified.
        reason: Why this screen.
        crew: Who works.
        blocks: How many rows and centres at a time.
        products: Blocks of the portable screen, which every ladder can fall back on.
        own: What else the screen has decided, in its own words.
        width: Candidates that the screen may leave of a row.
        kept: What the screen prepares is kept for all blocks of rows.
        sifts: The screen itself leaves out copies that no one can be answered with.
        at_once_rows: Rows of which all distances are looked at together, where that comes first; else 0.
        workspace_bytes: What the call allocates at most, beyond inputs and outputs.
        otherwise: The plan that runs where the values, or a look at them, speak against this one.
        later: The plan that takes over as soon as its kernels are loaded; this one does without.
        variant: See `Demand`.
    """

    problem: Problem
    screen: str
    reason: str
    crew: Crew
    blocks: Blocks
    products: Products
    own: Any
    width: int
    kept: bool
    sifts: bool
    at_once_rows: int
    workspace_bytes: int
    otherwise: Plan | None = None
    later: Plan | None = None
    variant: Hashable = None

    @property
    def k(self) -> int:
        """Neighbours asked for."""
        return self.problem.k

    @property
    def metric(self) -> str:
        """What centres are ordered by."""
        return self.problem.metric

    @property
    def kernels(self) -> bool:
        """Whether Numba kernels may be used."""
        return self.problem.machine.kernels

    @property
    def ways(self) -> tuple[Plan, ...]:
        """This plan, and those that run where values speak against those before."""
        return (self, *(() if self.otherwise is None else self.otherwise.ways))

    def without_kernels(self) -> Plan:
        """Return the same plan, which may use none."""
        return replace(self, problem=self.problem._replace(machine=replace(self.problem.machine, kernels=False)))

    def __str__(self) -> str:
        asked, workers = self.problem, self.crew.workers
        return "\n".join(
            [
                f"{asked.n_smps} x {asked.n_ctrs} points in {asked.d} dimensions, k = {asked.k}",
                f"screen: {self.screen} ({self.reason})",
                f"blocks: {self.blocks.rows} rows x {self.products.ctr_block} centres, {self.width} candidates a row, "
                f"packed centres {'kept' if self.kept else 'made anew for every block'}, "
                f"{workers} worker{'s' if workers > 1 else ''}",
                *([] if asked.machine.float64 else ["float64: on the CPU, for want of it on the tensors' device"]),
                f"workspace: at most {self.workspace_bytes / MEBIBYTE:.1f} MiB",
            ]
        )
