"""What a screen is: the contract that `choose`, `meet` and the ladder know; whatever keeps it can be one more screen.

why_not, cost, demand       by sizes alone, before a tensor is touched
why_not_here                by what was seen of the values
prepare -> Prepared         made of the centres alone; searched by any number of calls, may be kept
meet -> Meeting             prepared centres and the rows of one call
candidates                  of a block of rows, by the listers of a meeting, one after the other
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.contract import Candidates, Members
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Frame, Place
from janelia_core.ml._knn.data.mask import Mask
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.plan.demand import Cost, Demand
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.report import Report
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._runtime.workers import Workers


class Glance(NamedTuple):
    """A first look for a screen, a quick one: often it is all that is needed to see that another takes less.

    Attributes:
        look: Takes it, and returns what it told.
        declines: Tells from that whether the screen surely gives way.
    """

    look: Callable[[], Any]
    declines: Callable[[Any], bool]


@dataclass(frozen=True)
class Asked:
    """A search as a screen meets it.

    Attributes:
        x: The rows.
        centres: The centres, with what was made of them already.
        look: Tells what was seen of both, for which all values are looked at when it is first called.
        plan: What was planned for this screen.
        report: Is told what happens.
        workers: Who shares the work.
        mask: Which centres a row may be answered with; None: all.
        is_ready: Tells whether the kernels of a plan are loaded.
        few: One worker has looked at all values sooner than all of them wake for it.
        glanced: What first looks told.
    """

    x: Points
    centres: Centres
    look: Callable[[], Frame]
    plan: Plan
    report: Report
    workers: Workers
    mask: Mask | None = None
    is_ready: Callable[[Plan], bool] = lambda plan: True
    few: bool = False
    glanced: dict[str, Any] = field(default_factory=dict)

    def told(self, name: str, look: Callable[[], Any]) -> Any:
        """Return what the first look for a screen told; it is taken now, by a worker, if it was not before."""
        if name not in self.glanced:
            self.glanced[name] = self.workers.once(look)
        return self.glanced[name]

    @property
    def frame(self) -> Frame:
        """What was seen of rows and centres."""
        return self.look()


class Lister(Protocol):
    """Cheap scores with a proven error bound. Safe to call from several threads at once."""

    def candidates(self, rows: Rows) -> Candidates:
        """Shortlist the centres for a block of rows of stored, finite values."""
        ...


class Near(Protocol):
    """Who tells which centres may lie within a radius."""

    def blocks(self) -> list[tuple[int, int]]:
        """Return the blocks of centres, start and stop, that `within` takes."""
        ...

    def within(self, rows: Rows, radius: Tensor, start: int, stop: int) -> Tensor:
        """Return (r, stop - start) bool: False where a centre of the block is proven farther than radius (r,)."""
        ...


class Within(Protocol):
    """Who lists the members of a radius, for rows that share no limit with each other."""

    def members(self, rows: Rows, limit: Tensor, most: int) -> Members | None:
        """Return all centres whose order value may be at most limit (r,) float64, finite, in the units of verify.

        Args:
            rows: Of stored, finite values.
            limit: Of each row.
            most: Pairs that may be returned.

        Returns:
            They, and perhaps others; None: there would be more than `most`.
        """
        ...


class Meeting:
    """Prepared centres and the rows of one call.

    Attributes:
        listers: Who list candidates; rows that one cannot certify try the next.
        lists: It has listers; else torch operations list candidates of rows that it leaves in doubt.
        near: Who tells which centres may lie within a radius; None: this screen can't.
        within: Who lists those within a radius; None: this screen can't.
        compiled: Numba kernels have been loaded, so that verification may use its own.
        parts: In how many parts the centres come, one turn after the other.
        number: Which of them has its turn.
        brief: Rows are so few that no look at all centres pays that would only spare them work.
    """

    lists = True
    parts = 1
    number = 0
    brief = False
    near: Near | None = None
    within: Within | None = None

    def __init__(self, listers: Rungs[Lister], compiled: bool = False) -> None:
        self.listers, self.compiled = listers, compiled

    def turns(self) -> Iterator[Tensor | None]:
        """Yield positions of rows in the order in which they are best asked for (None: as they come), part by part."""
        yield None

    def sweep(self, answers: Answers) -> Tensor | None:
        """Answer all rows whose answer one pass by all workers proves; return the positions of the others.

        None: rows are asked for block by block instead (`turns`).
        """
        return None

    def answer(self, positions: Tensor, answers: Answers) -> Tensor:
        """Answer rows whose answer can be proven without the ladder; return the positions of the others."""
        return positions

    def passed(self, numbers: Tensor) -> Tensor:
        """Tell which centres, by their row numbers, had their turn before."""
        raise NotImplementedError


class Prepared(Protocol):
    """What a screen made of the centres alone, for any number of searches, at the same time too."""

    @property
    def nbytes(self) -> int:
        """What is held."""
        ...

    @property
    def stands(self) -> bool:
        """Whether later searches find it made: nothing is left to make anew for each of them."""
        ...

    def meet(self, asked: Asked) -> Meeting | None:
        """Bring rows and centres together.

        None where a look at the rows says that another screen takes less, of which `Report.look` has been told.
        """
        ...


class Screen(Protocol):
    """One way to exclude centres. Light to import: kernels are loaded where centres are prepared.

    One that few data suit may say so, by `rare = True`: then its kernels are no reason to wait (`meanwhile.py`). One
    for GPUs says so, by `gpu = True`: plans for a CPU don't mention it. One whose meetings have `within` says so, by
    `radius = True`. One that takes points where the frame's `place` says does so by `placed = True`. One that knows
    other forms of metrics than `metric.FORMS` names those that it knows, as its forms. One that looks at values before
    it serves may have a `glance(asked) -> Glance | None`, which is taken before (`meet.py`).

    Attributes:
        name: What plans and reports call it.
        parallel: Its rows are shared out to workers; else torch's own threads share each operation.
        looks: What was seen of the centres is asked for before rows meet them; else infinite centres are this screen's
            own affair.
    """

    name: str
    parallel: bool
    looks: bool

    def why_not(self, problem: Problem, workers: int) -> str:
        """Return why it does not serve a problem of these sizes, or nothing."""
        ...

    def cost(self, problem: Problem) -> Cost:
        """Return what it costs as long as nothing is known of the values."""
        ...

    def demand(self, problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
        """Return what it asks of `room` bytes; or, beside what the next best screen costs, why it is not taken."""
        ...

    def why_not_here(self, asked: Asked) -> str:
        """Return why it does not serve these values, or nothing."""
        ...

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Return what the prepared depends on beside the centres and the form of the metric."""
        ...

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> Prepared:
        """Make what depends on the centres alone; place tells where points are taken, if it is `placed`: else none."""
        ...
