"""Problems whose points have structure, in clusters or in few directions, and what may become of any of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._runtime.machine import this_machine
from plans import changed, run

N, ROWS = 900, 12
Pair = tuple[Tensor, Tensor]
Problem = Callable[[], Pair]
Builder = Callable[..., Pair]
"""Takes n_ctrs, among others."""


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clusters(n: int = ROWS, n_ctrs: int = N, d: int = 20, wide: float = 10.0) -> Pair:
    which = torch.randint(0, 8, (n + n_ctrs,), generator=torch.Generator().manual_seed(0))
    points = wide * normal(8, d, seed=1)[which] + normal(n + n_ctrs, d, seed=2)
    return points[:n].contiguous(), points[n:].contiguous()


def few_directions(n: int = ROWS, n_ctrs: int = N, d: int = 40, rank: int = 5, rest: float = 0.01) -> Pair:
    total = n + n_ctrs
    points = normal(total, rank, seed=0) @ normal(rank, d, seed=1) + rest * normal(total, d, seed=2)
    return points[:n].contiguous(), points[n:].contiguous()


def no_direction_leads(d: int) -> Pair:
    return normal(ROWS, d, seed=0), normal(N, d, seed=1)


def near_ties(of: Builder) -> Pair:
    x, ctrs = of()
    ring = normal(N // 2, x.shape[1], seed=3)
    ctrs[::2] = x[0] + ring / ring.norm(dim=1, keepdim=True)
    return x, ctrs


def duplicates(of: Builder) -> Pair:
    x, ctrs = of(n_ctrs=30)
    return x, ctrs.repeat(N // 30, 1)


def far_origin(of: Builder) -> Pair:
    x, ctrs = of()
    return x + 1e5, ctrs + 1e5


def in_float64(of: Builder) -> Pair:
    x, ctrs = of()
    return x.double() * (1.0 + 2.0**-40), ctrs.double() * (1.0 - 2.0**-41)


def far_out(of: Builder) -> Pair:
    x, ctrs = of()
    ctrs[7] *= 1e6
    x[1] *= 1e9
    return x, ctrs


def tiny(of: Builder) -> Pair:
    x, ctrs = of()
    return x * 2.0**-30, ctrs * 2.0**-30


def rows_are_centres_among_zeros(of: Builder) -> Pair:
    _, ctrs = of()
    ctrs[100:500] = 0.0
    return ctrs[:ROWS].clone(), ctrs


CHANGES = (near_ties, duplicates, far_origin, in_float64, far_out, tiny, rows_are_centres_among_zeros)


def any_of(of: Builder, *more: Problem) -> pytest.MarkDecorator:
    """Run a test on what `of` builds, on every change of it, and on `more`, as its argument `problem`."""
    by_name: dict[str, Problem] = {of.__name__: of}
    by_name |= {change.__name__: lambda change=change: change(of) for change in CHANGES}
    by_name |= {problem.__name__: problem for problem in more}
    return pytest.mark.parametrize("problem", by_name.values(), ids=by_name)


def assert_answers_as_without_it(screen: str, x: Tensor, ctrs: Tensor) -> None:
    """Search by a screen, with one worker and two, and by none."""
    cpu = this_machine(torch.device("cpu"))
    plan = changed(make_plan(len(x), len(ctrs), x.shape[1], 5, len(ctrs), machine=cpu), at_once_rows=0)
    expected = run(x, ctrs, changed(plan, screen="none"))
    for workers in (1, 2):
        assert torch.equal(run(x, ctrs, changed(plan, screen=screen, workers=workers, row_block=7)), expected)
