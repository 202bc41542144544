"""A search: small problems at one look, others block by block of rows, on workers, by the ladder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.asking import ask
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.mask import Allowed, Mask
from janelia_core.ml._knn.data.points import Points, is_wide
from janelia_core.ml._knn.exact_order import ExactOrder
from janelia_core.ml._knn.exhaustive import Exhaustive
from janelia_core.ml._knn.fold import OPEN, Fold
from janelia_core.ml._knn.ladder import Ladder
from janelia_core.ml._knn.meet import Chosen, choose
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import Report, publish
from janelia_core.ml._knn.rows import Rows, parts
from janelia_core.ml._knn.screens.contract import Asked
from janelia_core.ml._knn.small.at_once import lanes_are_ready, nearest_at_once
from janelia_core.ml._knn.small.masked import nearest_allowed
from janelia_core.ml._runtime.loading import is_compiling_apart
from janelia_core.ml._runtime.standing import n_processors
from janelia_core.ml._runtime.workers import Workers

_WORTH_A_CHANGE = 1.0  # seconds of a compiled screen, from which a rare one that is there by now takes over
_LONG = 2.0  # seconds, from which a processor is left to whoever compiles: kernels will take a fraction of the rest
_TINY = 1 << 11  # numbers: torch shares out no operation on so few, not even cdist


def search(
    x: Points,
    centres: Centres,
    plan: Plan,
    allowed: Allowed | None = None,
    answers: Answers | None = None,
    report: Report | None = None,
    is_ready: Callable[[Plan], bool] = lambda plan: True,
) -> Tensor:
    """Return the k nearest centres (k, n_smps) int64 of every row, as row numbers of `centres.points.values`.

    Where `allowed` (see `mask`) leaves a row fewer than k centres, the rest of its column is -1. They are written to
    `answers`, if given, and what happens to `report`. `is_ready` tells whether the kernels of a plan are loaded.
    """
    report = report or Report(plan)
    # Workers could not write to what inference mode makes; it is a setting of the thread.
    with torch.inference_mode(False):
        answers = answers or _new_answers(x, plan)
        if len(x) == 0 or (x.d == 0 and allowed is None):  # all distances are alike
            answers.hold(plan.k, len(x), x.device)
            _all_alike(x, centres.points, plan, answers)
        elif plan.at_once_rows:  # Step 3: few pairs are looked at all at once
            _at_once(x, centres, plan, report, answers, is_ready, allowed)
        else:
            _by_blocks(x, centres, plan, report, answers, is_ready, allowed)
    publish(report)  # Step 11: answers are put
    return answers.out


def _new_answers(x: Points, plan: Plan) -> Answers:
    """Return where answers of a search go that nobody made a place for; that of a single part makes it."""
    alone = plan.at_once_rows >= len(x) > 0
    return Answers(None if alone else torch.empty(plan.k, len(x), dtype=torch.int64, device=x.device))


def _all_alike(x: Points, ctrs: Points, plan: Plan, answers: Answers) -> None:
    first = ctrs.row_numbers(torch.arange(plan.k, device=x.device))
    for part in parts(len(x), max(1, plan.crew.chunk // plan.k)):
        numbers = _numbers(x, part)
        answers.put(part, first.expand(len(numbers), -1), numbers)


def _numbers(x: Points, part: slice) -> Tensor:
    return x.row_numbers(torch.arange(part.start, min(part.stop, len(x)), device=x.device))


def _at_once(
    x: Points,
    centres: Centres,
    plan: Plan,
    report: Report,
    answers: Answers,
    is_ready: Callable[[Plan], bool],
    allowed: Allowed | None,
) -> None:
    """Search a small problem without blocks; only rows that rounding leaves in doubt take the ladder."""
    ctrs = centres.points
    if is_wide(x.values) or is_wide(ctrs.values):
        answers.hold(plan.k, len(x), x.device)
        _by_blocks(x, centres, plan, report, answers, is_ready, allowed)
        return
    block, mask = ctrs.block(0, len(ctrs)), None if allowed is None else Mask(allowed, ctrs)

    def look(part: slice) -> Tensor | None:
        """Answer rows; return the positions of those in doubt, if there are any."""
        rows = x.values[part] if plan.at_once_rows < len(x) else x.values
        if mask is None:
            indices, certain = nearest_at_once(rows, block, plan)
        else:
            shown = mask.tiles(_numbers(x, part), plan.problem.m)
            indices, certain = nearest_allowed(rows, block, shown, plan)
        if certain.all():
            answers.put(part, ctrs.row_numbers(indices).T, _numbers(x, part) if answers.but_self else None)
            return None
        here = certain.nonzero()[:, 0]
        answers.hold(plan.k, len(x), x.device)
        answers.put(here + part.start, ctrs.row_numbers(indices[:, here]).T, here + part.start)
        doubtful: Tensor = (~certain).nonzero()[:, 0] + part.start
        return doubtful

    with Workers(plan.crew.workers, plan.crew.pooled, _is_tiny(x, centres), x.device) as workers:
        left = [part for part in workers.each(look, parts(len(x), plan.at_once_rows)) if part is not None]
    report.add(n_exhaustive=len(x) - sum(map(len, left)))
    if left:
        doubtful = torch.cat(left)
        _by_blocks(replace(x, subset=doubtful), centres, plan, report, answers.of_rows(doubtful), is_ready, allowed)


def _is_tiny(x: Points, centres: Centres) -> bool:
    return len(x) * len(centres) * x.d < _TINY


def _by_blocks(
    x: Points,
    centres: Centres,
    plan: Plan,
    report: Report,
    answers: Answers,
    is_ready: Callable[[Plan], bool],
    allowed: Allowed | None = None,
) -> None:
    """Search all rows block by block; where kernels are loaded meanwhile, the first as goes without them."""
    done, plan = 0, plan if is_ready(plan) else plan.without_kernels()
    later = plan.later
    if later is not None:
        done = _prepared(x, centres.apart(), plan, report, answers, is_ready, allowed)
        if done < len(x) or not plan.kernels:
            report.add(n_meanwhile=done)
        if done < len(x):
            if plan.kernels:
                report.stood_in = f"the {report.plan.screen} screen"
            plan = report.plan = later
            report.screen = report.look = ""
    if done < len(x):
        _prepared(x, centres, plan, report, answers, is_ready, allowed, done)
    if later is not None:
        lanes_are_ready(x.values.dtype, centres.points.values.dtype)  # small problems come, too


def _prepared(
    x: Points,
    centres: Centres,
    plan: Plan,
    report: Report,
    answers: Answers,
    is_ready: Callable[[Plan], bool],
    allowed: Allowed | None,
    done: int = 0,
) -> int:
    """Choose a screen, prepare the centres for it, and send rows up the ladder, but for the first that are done.

    Returns:
        How many of the rows are answered.
    """
    with Workers(plan.crew.workers, plan.crew.pooled, _is_tiny(x, centres), x.device) as workers:
        # Step 4: rows and centres are seen
        asked = replace(ask(x, centres, plan, report, workers, allowed), is_ready=is_ready)
        # Step 5: a screen is chosen, prepares the centres, and rows meet them
        chosen = choose(asked)
        meeting = chosen.meeting
        if asked.plan.later is not None and (meeting is None or (meeting.parts == 1 and meeting.lists)):
            return _until_ready(asked, chosen, _ladder(asked, chosen), answers)
        left = meeting.sweep(answers) if meeting else None
        if left is not None:
            _after_sweep(asked, chosen, _left(left, done), answers, done)
        elif meeting is None or meeting.parts == 1:
            _in_one_turn(asked, chosen, _ladder(asked, chosen), answers, done)
        else:
            _turn_by_turn(asked, chosen, _ladder(asked, chosen), answers, done)
    return len(x)


def _ladder(asked: Asked, chosen: Chosen) -> Ladder:
    """Return what rows climb; values are looked at for it."""
    plan, meeting, frame = chosen.plan, chosen.meeting, asked.frame
    order = ExactOrder(
        ctrs=asked.centres.points,
        metric=metric_named(plan.metric, frame.verify_exponent, not (meeting and meeting.brief) and frame.exact),
        k=plan.k,
        in_float64=frame.in_float64,
        compiled=meeting is not None and meeting.compiled and frame.in_float64,
        kernels=plan.kernels,
        report=asked.report,
    )
    return Ladder(chosen, Exhaustive(order, plan, asked.mask), asked)


def _after_sweep(asked: Asked, chosen: Chosen, left: Tensor, answers: Answers, done: int) -> None:
    """Search the rows that one pass has left in doubt; the first `done` were answered before it."""
    clear, step = len(asked.x) - done - len(left), chosen.plan.blocks.rows
    asked.report.add(n_screened=clear, n_candidates=clear * chosen.plan.k)
    if len(left):
        ladder, blocks = _ladder(asked, chosen), [left[part] for part in parts(len(left), step)]
        asked.workers.each(lambda positions: _climb(asked.x, positions, ladder, answers), blocks)


def _until_ready(asked: Asked, chosen: Chosen, ladder: Ladder, answers: Answers) -> int:
    """Search rows as they come until the plan that follows finds its kernels loaded; return how many."""
    x, later, ends = asked.x, asked.plan.later, [len(asked.x)]
    assert later is not None
    begun, least = time.monotonic(), _WORTH_A_CHANGE if chosen.plan.kernels else 0.0
    workers = asked.plan.crew.workers
    all_but_one = threading.Semaphore(max(1, workers - 1))
    shares = not chosen.plan.kernels and workers >= n_processors()

    def takes(seconds: float, done: int) -> bool:
        """Tell whether the rows that are left would take so long, as those before them did."""
        return done > 0 and (time.monotonic() - begun) * (len(x) - done) >= seconds * done

    def work(part: slice) -> None:
        if len(ends) > 1 or (takes(least, part.start) and asked.is_ready(later)):
            ends.append(part.start)  # parts are taken in order: those before the least of these are answered
            return
        with all_but_one if shares and takes(_LONG, part.start) and is_compiling_apart() else nullcontext():
            _search_part(x, part, ladder, answers)

    asked.workers.each(work, parts(len(x), chosen.plan.blocks.rows))
    return min(ends)


def _in_one_turn(asked: Asked, chosen: Chosen, ladder: Ladder, answers: Answers, done: int) -> None:
    """Search all rows that are not done, in the order in which the screen likes them best."""
    x, meeting, report, step = asked.x, chosen.meeting, asked.report, chosen.plan.blocks.rows

    def work_on(positions: Tensor) -> None:
        assert meeting is not None
        left = meeting.answer(positions, answers)
        clear = len(positions) - len(left)
        report.add(n_screened=clear, n_candidates=clear * chosen.plan.k)
        if len(left):
            _climb(x, left, ladder, answers)

    for order in (None,) if meeting is None else meeting.turns():
        if order is None:
            asked.workers.each(lambda part: _search_part(x, part, ladder, answers), parts(len(x), step, done))
        else:
            order = _left(order, done)
            asked.workers.each(work_on, [order[part] for part in parts(len(order), step)])


def _turn_by_turn(asked: Asked, chosen: Chosen, ladder: Ladder, answers: Answers, done: int) -> None:
    """Search rows that are not done among one part of the centres after the other, and whom no list certified."""
    x, plan, step, meeting = asked.x, chosen.plan, chosen.plan.blocks.rows, chosen.meeting
    assert meeting is not None
    fold = Fold(meeting, ladder.order, plan, asked.report)

    def work_on(positions: Tensor) -> None:
        rows = _rows_at(x, positions)
        found = answers.kept(positions, rows.numbers, meeting.passed(rows.numbers)) if meeting.number else None
        answers.put(positions, fold.search(rows, found), rows.numbers)

    for order in meeting.turns():
        assert order is not None
        order = _left(order, done)
        asked.workers.each(work_on, [order[part] for part in parts(len(order), step)])
    for some in parts(len(x), max(step, plan.crew.chunk)):
        still = (answers.out[0, some] == OPEN).nonzero()[:, 0] + some.start
        blocks = [still[part] for part in parts(len(still), step)]
        asked.workers.each(lambda positions: _climb(x, positions, ladder, answers), blocks)


def _left(order: Tensor, done: int) -> Tensor:
    return order if done == 0 else order[order >= done]


def _search_part(x: Points, part: slice, ladder: Ladder, answers: Answers) -> None:
    rows = Rows(x.block(part.start, part.stop), _numbers(x, part))
    answers.put(part, ladder.search(rows), rows.numbers)


def _climb(x: Points, positions: Tensor, ladder: Ladder, answers: Answers) -> None:
    rows = _rows_at(x, positions)
    answers.put(positions, ladder.search(rows), rows.numbers)


def _rows_at(x: Points, positions: Tensor) -> Rows:
    numbers = x.row_numbers(positions)
    return Rows(x.take(numbers), numbers)
