"""A search: small problems at one look, others block by block of rows, on workers, by the ladder."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.data.mask import Allowed, Mask
from janelia_core.ml._knn.data.points import Points, is_wide
from janelia_core.ml._knn.ladder import OPEN, Ladder
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import Report, publish
from janelia_core.ml._knn.rows import Rows, parts
from janelia_core.ml._knn.small.at_once import nearest_at_once
from janelia_core.ml._runtime.workers import Workers

_TINY = 1 << 11  # numbers: torch shares out no operation on so few, not even cdist


def search(
    x: Points, ctrs: Points, plan: Plan, allowed: Allowed | None = None, answers: Answers | None = None
) -> Tensor:
    """Return the k nearest centres (k, n_smps) int64 of every row, as row numbers of ctrs.values.

    Where `allowed` (see `mask`) leaves a row fewer than k centres, the rest of its column is -1. They are written to
    `answers`, if given.
    """
    report = Report(plan)
    # Workers could not write to what inference mode makes; it is a setting of the thread.
    with torch.inference_mode(False):
        answers = answers or _new_answers(x, plan)
        if len(x) == 0 or (ctrs.d == 0 and allowed is None):  # all distances are alike
            answers.hold(plan.k, len(x), x.device)
            _all_alike(x, ctrs, plan, answers)
        elif plan.at_once_rows:
            _at_once(x, ctrs, plan, report, answers)
        else:
            _by_blocks(x, ctrs, plan, report, answers, None if allowed is None else Mask(allowed, ctrs))
    publish(report)
    return answers.out


def _new_answers(x: Points, plan: Plan) -> Answers:
    """Return where answers of a search go that nobody made a place for; that of a single part makes it."""
    alone = plan.at_once_rows >= len(x) > 0
    return Answers(None if alone else torch.empty(plan.k, len(x), dtype=torch.int64, device=x.device))


def _all_alike(x: Points, ctrs: Points, plan: Plan, answers: Answers) -> None:
    first = ctrs.row_numbers(torch.arange(plan.k, device=x.device))
    for part in parts(len(x), max(1, plan.chunk // plan.k)):
        numbers = _numbers(x, part)
        answers.put(part, first.expand(len(numbers), -1), numbers)


def _numbers(x: Points, part: slice) -> Tensor:
    return x.row_numbers(torch.arange(part.start, min(part.stop, len(x)), device=x.device))


def _at_once(x: Points, ctrs: Points, plan: Plan, report: Report, answers: Answers) -> None:
    """Search a small problem without blocks; only rows that rounding leaves in doubt take the ladder."""
    if is_wide(x.values) or is_wide(ctrs.values):
        answers.hold(plan.k, len(x), x.device)
        _by_blocks(x, ctrs, plan, report, answers)
        return
    block = ctrs.block(0, len(ctrs))

    def look(part: slice) -> Tensor | None:
        """Answer rows; return the positions of those in doubt, if there are any."""
        rows = x.values[part] if plan.at_once_rows < len(x) else x.values
        indices, certain = nearest_at_once(rows, block, plan)
        if certain.all():
            answers.put(part, ctrs.row_numbers(indices).T, _numbers(x, part) if answers.but_self else None)
            return None
        here = certain.nonzero()[:, 0]
        answers.hold(plan.k, len(x), x.device)
        answers.put(here + part.start, ctrs.row_numbers(indices[:, here]).T, here + part.start)
        doubtful: Tensor = (~certain).nonzero()[:, 0] + part.start
        return doubtful

    with Workers(plan.workers, pool=plan.pooled, tiny=_is_tiny(x, ctrs)) as workers:
        left = [part for part in workers.each(look, parts(len(x), plan.at_once_rows)) if part is not None]
    report.add(n_exhaustive=len(x) - sum(map(len, left)))
    if left:
        doubtful = torch.cat(left)
        _by_blocks(replace(x, subset=doubtful), ctrs, plan, report, answers.of_rows(doubtful))


def _is_tiny(x: Points, ctrs: Points) -> bool:
    return len(x) * len(ctrs) * ctrs.d < _TINY


def _by_blocks(x: Points, ctrs: Points, plan: Plan, report: Report, answers: Answers, mask: Mask | None = None) -> None:
    with Workers(plan.workers, plan.pooled, _is_tiny(x, ctrs)) as workers:
        ladder = Ladder(x, ctrs, plan, report, workers, mask)
        block = ladder.plan.row_block

        def work(part: slice) -> None:
            rows = Rows(x.block(part.start, part.stop), _numbers(x, part))
            answers.put(part, ladder.search(rows), rows.numbers)

        def work_on(positions: Tensor) -> None:
            positions = ladder.answered(x, positions, answers)
            if len(positions) == 0:
                return
            numbers = x.row_numbers(positions)
            found = None
            if ladder.forest is not None and ladder.forest.number:
                found = answers.kept(positions, numbers, ladder.forest.passed(numbers))
            answers.put(positions, ladder.search(Rows(x.take(numbers), numbers), found), numbers)

        if ladder.forest is None:
            workers.each(work, parts(len(x), block))
            return
        for order in ladder.forest.orders():
            workers.each(work_on, [order[part] for part in parts(len(order), block)])
        if ladder.forest.parts > 1:
            ladder.forest = None
            for some in parts(len(x), max(block, plan.chunk)):
                still = (answers.out[0, some] == OPEN).nonzero()[:, 0] + some.start
                workers.each(work_on, [still[part] for part in parts(len(still), block)])
