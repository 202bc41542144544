"""What processes of a group check among themselves: each function returns nothing, or what is wrong."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from janelia_core.ml import CenterIndex, distributed, knn, radius
from janelia_core.ml._distributed import session
from janelia_core.ml._distributed.group import Group
from problems import KINDS, PROBLEMS

SOME = KINDS[::12]
METRICS = ("euclidean", "dot", "cosine", "manhattan")


def run(rank: int, size: int, checks: dict[str, Callable[[int, int], str]]) -> dict[str, str]:
    """Return what each check finds wrong: nothing, if all is right. Processes go on together after an error."""
    found = {}
    for name, check in checks.items():
        try:
            found[name] = check(rank, size)
        except Exception:
            found[name] = traceback.format_exc()
        dist.barrier()
    return found


def cut(g: random.Random, n: int, size: int) -> list[int]:
    """Return where n things are cut at random in as many parts, of which some may be empty."""
    return [0, *sorted(g.randint(0, n) for _ in range(size - 1)), n]


def same(one: Tensor, other: Tensor) -> bool:
    """Whether tensors hold the same bytes."""
    return one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()


def of_problems(rank: int, size: int, names: Sequence[str] = SOME, metrics: Sequence[str] = METRICS) -> str:
    wrong = []
    for number, name in enumerate(names):
        x, ctrs, k, _ = PROBLEMS[name]()
        g = random.Random(f"{name} {size}")
        at, own = cut(g, len(ctrs), size), cut(g, len(x), size)
        shard, part = ctrs[at[rank] : at[rank + 1]], slice(own[rank], own[rank + 1])
        for metric in (metrics[number % len(metrics)],) if names is SOME else metrics:
            want = knn(x, ctrs, k, metric=metric)
            every = distributed.knn(x, shard, k, metric=metric, max_memory=1 << 20)
            mine = distributed.knn(x[part], shard, k, metric=metric, rows="sharded", max_memory=1 << 20)
            right = same(every.indices, want.indices) and same(every.distances, want.distances)
            if not (right and same(mine.indices, want.indices[part]) and same(mine.distances, want.distances[part])):
                wrong.append(f"{name} {metric}")
    return ", ".join(wrong)


def near_ties(n: int = 150, m: int = 500) -> tuple[Tensor, Tensor]:
    """Rows near the middle of a sphere of centres, with copies: stored centres must be fetched for nearly every row."""
    g = torch.Generator().manual_seed(3)
    ctrs = torch.nn.functional.normalize(torch.randn(m, 6, generator=g), dim=1)
    ctrs[m // 2 :] = ctrs[: m - m // 2]
    return torch.randn(n, 6, generator=g) * 1e-7, ctrs


def many_rounds(rank: int, size: int) -> str:
    x, ctrs = near_ties()
    at = cut(random.Random(size), len(ctrs), size)
    want = knn(x, ctrs, 60)
    # Memories differ, and blocks are of a few rows, so that each is sent while the next is searched.
    got = distributed.knn(x, ctrs[at[rank] : at[rank + 1]], 60, max_memory=(1 << 20) + (rank << 24))
    return "" if same(got.indices, want.indices) and same(got.distances, want.distances) else "another answer"


def few_centres(rank: int, size: int) -> str:
    g = torch.Generator().manual_seed(1)
    x, ctrs = torch.randn(7, 3, generator=g), torch.randn(4, 3, generator=g)
    for some in (ctrs, ctrs[:1], ctrs[:0]):
        shard = some if rank == size - 1 else some[:0]
        for rows in ("replicated", "sharded"):
            for mine in (x, x[:0]):
                got, want = distributed.knn(mine, shard, 6, rows=rows), knn(mine, some, 6)
                near, wide = distributed.radius(mine, shard, 1.5, rows=rows), radius(mine, some, 1.5)
                parts = zip((*got, *near), (*want, *wide), strict=True)
                if not all(same(one, other) for one, other in parts):
                    return f"{len(some)} centres, {len(mine)} rows, {rows}"
    return ""


def kinds_of_input(rank: int, size: int) -> str:
    g = torch.Generator().manual_seed(2)
    places = (torch.rand(60, 2, generator=g, dtype=torch.float64) - 0.5) * torch.tensor([3.0, 6.0])
    whole = torch.randint(-3, 3, (60, 4), generator=g)
    zeros = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, -1.0]]).repeat(20, 1)
    cases = [
        (places, places, "haversine"),
        (places.half(), places.half(), "euclidean"),
        (whole, whole.float(), "cosine"),
        (whole.to(torch.uint8), whole.double(), "chebyshev"),
        (zeros, zeros, "sqeuclidean"),
        (whole[:, :0], whole[:, :0], "euclidean"),
        (places.T.contiguous().T, places.flip(1).flip(1), "dot"),
    ]
    for number, (x, ctrs, metric) in enumerate(cases):
        at = cut(random.Random(number), len(ctrs), size)
        got, want = distributed.knn(x, ctrs[at[rank] : at[rank + 1]], 9, metric=metric), knn(x, ctrs, 9, metric=metric)
        if not (same(got.indices, want.indices) and same(got.distances, want.distances)):
            return f"case {number}, {metric}"
    return ""


def small(rank: int, size: int) -> tuple[Tensor, Tensor, list[int], list[int]]:
    """Return rows, centres, and where both are cut; one process has no centres and no rows."""
    g = torch.Generator().manual_seed(0)
    x, ctrs = torch.randn(50, 4, generator=g), torch.randn(40, 4, generator=g)
    at, own = [0, *[13] * (size - 1), 40], [0, *[20] * (size - 1), 50]
    return x, ctrs, at, own


def masks_and_kept_shards(rank: int, size: int) -> str:
    x, ctrs, at, own = small(rank, size)
    allowed = torch.rand(50, 40, generator=torch.Generator().manual_seed(4)) < 0.15
    want = knn(x, ctrs, 5, mask=allowed)
    shard = ctrs[at[rank] : at[rank + 1]]
    kept = CenterIndex(shard, metric="euclidean") if len(shard) else shard
    for rows in ("replicated", "sharded"):
        part = slice(own[rank], own[rank + 1]) if rows == "sharded" else slice(0, 50)
        for mine in (shard, kept):
            got = distributed.knn(x[part], mine, 5, rows=rows, mask=lambda r, a, b: allowed[r, a:b])
            if not (same(got.indices, want.indices[part]) and same(got.distances, want.distances[part])):
                return f"mask, {rows}"
            near, wide = distributed.radius(x[part], mine, 1.5, rows=rows), radius(x[part], ctrs, 1.5)
            if not all(same(one, other) for one, other in zip(near, wide, strict=True)):
                return f"radius, {rows}"
    return ""


def gradients(rank: int, size: int) -> str:
    x, ctrs, at, own = small(rank, size)
    close = torch.testing.assert_close
    for metric in ("euclidean", "cosine", "manhattan"):
        for search, one in ((distributed.knn, knn), (distributed.radius, radius)):
            ask = 5 if search is distributed.knn else 1.2
            X, C = x.clone().requires_grad_(), ctrs.clone().requires_grad_()
            want = one(X, C, ask, metric=metric)
            weights = torch.randn(want.distances.shape, generator=torch.Generator().manual_seed(5))
            (want.distances * weights).sum().backward()
            for rows in ("replicated", "sharded"):
                part = slice(own[rank], own[rank + 1]) if rows == "sharded" else slice(0, 50)
                mine, shard = x[part].clone().requires_grad_(), ctrs[at[rank] : at[rank + 1]].clone().requires_grad_()
                got = search(mine, shard, ask, rows=rows, metric=metric, max_memory=1 << 20)
                kept = part if search is distributed.knn else slice(*want.offsets[[part.start, part.stop]].tolist())
                (got.distances * weights[kept]).sum().backward()
                close(mine.grad, X.grad[part], rtol=1e-4, atol=1e-5)
                close(shard.grad, C.grad[at[rank] : at[rank + 1]], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        return "gradients in no_grad" if distributed.knn(mine, shard, 5, rows="sharded")[0].requires_grad else ""


def skewed_radius(rank: int, size: int) -> str:
    g = torch.Generator().manual_seed(6)
    ctrs = torch.randn(4000, 3, generator=g)
    x = torch.cat([torch.randn(600, 3, generator=g) + 40, torch.zeros(1, 3), torch.randn(600, 3, generator=g) - 40])
    at = cut(random.Random(size), len(ctrs), size)
    want = radius(x, ctrs, 30.0)
    started = time.monotonic()
    got = distributed.radius(x, ctrs[at[rank] : at[rank + 1]], 30.0, max_memory=1 << 20)
    taken = time.monotonic() - started
    if not all(same(one, other) for one, other in zip(got, want, strict=True)):
        return "another answer"
    return f"{taken:.1f} s" if taken > 10 else ""


def subgroups(rank: int, size: int) -> str:
    everybody = dist.new_group(list(range(size))[::-1])
    some = dist.new_group(list(range(max(1, size - 1))))
    x, ctrs, _, _ = small(rank, size)
    for group in (everybody, some):
        members = dist.get_process_group_ranks(group) if group is not dist.GroupMember.NON_GROUP_MEMBER else []
        if rank not in members:
            try:
                distributed.knn(x, ctrs, 3, group=group)
            except ValueError as error:
                if "group must be one that this process belongs to" in str(error):
                    continue
                return str(error)
            return "a stranger to the group was served"
        place, at = members.index(rank), cut(random.Random(1), 40, len(members))
        got, want = distributed.knn(x, ctrs[at[place] : at[place + 1]], 5, group=group), knn(x, ctrs, 5)
        if not (same(got.indices, want.indices) and same(got.distances, want.distances)):
            return f"group {members}"
    return ""


def bytes_sent(rank: int, size: int) -> str:
    made: list[Group] = []

    class Counted(Group):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            made.append(self)

    before, session.Group = session.Group, Counted  # type: ignore[misc]
    try:
        g = torch.Generator().manual_seed(7)
        n, m, k = 20000, 1500, 20
        x, ctrs = torch.randn(n, 8, generator=g), torch.randn(m, 8, generator=g)
        at = [m * i // size for i in range(size + 1)]
        for metric in ("euclidean", "dot"):
            distributed.knn(x, ctrs[at[rank] : at[rank + 1]], k, metric=metric)
            bound = 1.1 * 16 * n * k * (size - 1) / size + 8 * n * k + 2**20
            if not made or made[-1].sent > bound or (size > 1 and made[-1].sent < 4 * n * k / size):
                return f"{metric}: {made[-1].sent} bytes, {bound:.0f} allowed"
    finally:
        session.Group = before  # type: ignore[misc]
    return ""


def wrong_arguments(rank: int, size: int) -> str:
    x, ctrs, at, _ = small(rank, size)
    shard, last = ctrs[at[rank] : at[rank + 1]], rank == size - 1
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: distributed.knn(x, shard, 5 + last), "k must be the same"),
        (lambda: distributed.knn(x[:, : 4 - last], shard[:, : 4 - last], 5), "the number of columns must be the same"),
        (lambda: distributed.knn(x, shard.double() if last else shard, 5), "the dtype of the centres must be the same"),
        (lambda: distributed.knn(x, shard, 5, metric="dot" if last else None), "metric must be the same"),
        (lambda: distributed.knn(x + int(last), shard, 5), "x must be the same"),
        (lambda: distributed.knn(x.clone().requires_grad_(last), shard, 5), "gradients of x"),
        (lambda: distributed.radius(x, shard, 1.0 + last), "r must be the same"),
        (lambda: distributed.knn(x, shard, 5, rows="sharded" if last else "replicated"), "rows must be the same"),
    ]
    both: list[tuple[Callable[[], object], str]] = [
        (lambda: distributed.knn(x, shard, 0 if last else 5), "k must be at least 1"),
        (lambda: distributed.knn(x, shard[:, :3] if last else shard, 5), "columns"),
        (lambda: distributed.knn(x, shard, 5, max_memory=7 if last else None), "max_memory must be at least"),
        (lambda: distributed.knn(x, shard, 5, mask=3 if last else None), "mask must be a function"),
        (lambda: distributed.radius(x, shard, -1.0 if last else 1.0), "r must"),
        (lambda: distributed.radius(x, shard, "far" if last else 1.0), "r must"),
    ]
    for call, words in (*(cases if size > 1 else []), *both):
        try:
            call()
        except Exception as error:
            expected = ValueError if words.endswith("same") else Exception
            if not isinstance(error, expected) or not (words in str(error) or "failed" in str(error)):
                return f"{words}: {type(error).__name__}: {error}"
            if last and isinstance(error, distributed.DistributedError):
                return f"{words}: the own error was hidden by {error}"
        else:
            return f"{words}: no error"
    return ""


def no_trace(rank: int, size: int) -> str:
    x, ctrs, at, _ = small(rank, size)
    shard = ctrs[at[rank] : at[rank + 1]]
    distributed.knn(x, shard, 3)
    threads, state = threading.active_count(), torch.get_rng_state()
    grad, number = torch.is_grad_enabled(), torch.get_num_threads()
    distributed.knn(x, shard, 3)
    distributed.radius(x, shard, 1.0)
    after = threading.active_count(), torch.is_grad_enabled(), torch.get_num_threads()
    if after != (threads, grad, number) or not torch.equal(state, torch.get_rng_state()):
        return f"{(threads, grad, number)} became {after}"
    return ""


CHECKS: dict[str, Callable[[int, int], str]] = {
    function.__name__: function
    for function in (
        of_problems,
        many_rounds,
        few_centres,
        kinds_of_input,
        masks_and_kept_shards,
        gradients,
        skewed_radius,
        subgroups,
        bytes_sent,
        wrong_arguments,
        no_trace,
    )
}
