"""What processes of a mesh check of DTensors: each function returns nothing, or what is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor

from distributed_checks import same
from janelia_core.ml import knn
from janelia_core.ml._distributed.group import Group


def points() -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, centres and weights of distances; no number of processes divides how many there are."""
    g = torch.Generator().manual_seed(0)
    return torch.randn(31, 4, generator=g), torch.randn(23, 4, generator=g), torch.randn(31, 5, generator=g)


def answers(rank: int, size: int) -> str:
    """Compare searches and gradients of all placements with those of one process."""
    x, ctrs, weights = points()
    meshes = [init_device_mesh("cpu", (size,))] + ([init_device_mesh("cpu", (2, 2))] if size == 4 else [])
    for mesh in meshes:
        of_rows = list(itertools.product([Shard(0), Replicate()], repeat=mesh.ndim))
        of_ctrs = [some for some in of_rows if sum(one.is_shard() for one in some) < 2]
        for places, others in itertools.product(of_rows, of_ctrs):
            X, C = x.clone().requires_grad_(), ctrs.clone().requires_grad_()
            want = knn(X, C, 5)
            (want.distances * weights).sum().backward()
            rows = distribute_tensor(x, mesh, places).requires_grad_()
            centres = distribute_tensor(ctrs, mesh, others).requires_grad_()
            got = knn(rows, centres, 5)
            (got.distances * distribute_tensor(weights, mesh, places)).sum().backward()
            for part, whole in zip(got, want, strict=True):
                if part.placements != places or not same(part.full_tensor().detach(), whole.detach()):
                    return f"{places}, {others}: another answer"
            torch.testing.assert_close(rows.grad.full_tensor(), X.grad)
            torch.testing.assert_close(centres.grad.full_tensor(), C.grad)
    return ""


def among_itself(rank: int, size: int) -> str:
    """A row leaves itself out, by its number among the rows of all processes."""
    x = points()[0].repeat(2, 1)
    rows = distribute_tensor(x, init_device_mesh("cpu", (size,)), [Shard(0)])
    for include_self in (False, True):
        got, want = knn(rows, k=3, include_self=include_self), knn(x, k=3, include_self=include_self)
        if not same(got.indices.full_tensor(), want.indices):
            return f"include_self={include_self}"
    return ""


def backwards(rank: int, size: int) -> str:
    """Processes that a mesh numbers from the last to the first have the last centres first: they are refused."""
    x, ctrs, _ = points()
    mesh = DeviceMesh("cpu", list(range(size))[::-1])
    want = knn(x, ctrs, 5)
    try:
        got = knn(*(distribute_tensor(some, mesh, [Shard(0)]) for some in (x, ctrs)), 5)
    except ValueError as error:
        return "" if size > 1 and "must have its processes in ascending order" in str(error) else str(error)
    return "" if same(got.indices.full_tensor(), want.indices) else "another answer"


def no_gather(rank: int, size: int) -> str:
    """Centres stay where they are: nobody sends as many bytes as it has centres."""
    g = torch.Generator().manual_seed(1)
    mesh = init_device_mesh("cpu", (size,))
    rows = distribute_tensor(torch.randn(20, 64, generator=g), mesh, [Replicate()])
    centres = distribute_tensor(torch.randn(4000, 64, generator=g), mesh, [Shard(0)])
    sent: list[int] = []
    init = Group.__init__

    def noted(group: Group, *arguments: object) -> None:
        init(group, *arguments)  # type: ignore[arg-type]
        made.append(group)

    made: list[Group] = []
    Group.__init__ = noted  # type: ignore[method-assign, assignment]
    try:
        knn(rows, centres, 3)
    finally:
        Group.__init__ = init  # type: ignore[method-assign]
    sent = [group.sent for group in made]
    return "" if len(sent) == 1 and sent[0] < 4000 * 64 * 4 / size / 10 else f"{sent} bytes"


def errors(rank: int, size: int) -> str:
    """What does not go with DTensors is refused on every process, in words that name the argument."""
    x, ctrs, _ = points()
    mesh, square = init_device_mesh("cpu", (size,)), init_device_mesh("cpu", (size, 1))
    rows, centres = distribute_tensor(x, mesh, [Shard(0)]), distribute_tensor(ctrs, mesh, [Shard(0)])

    def placed(mesh: DeviceMesh, *placements: Placement) -> DTensor:
        return distribute_tensor(ctrs, mesh, placements)

    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: knn(rows, ctrs, 5), "ctrs is a Tensor: torch.distributed.tensor.distribute_tensor(ctrs, mesh)"),
        (lambda: knn(x, centres, 5), "x is a Tensor"),
        (lambda: knn(rows, placed(mesh, Shard(1)), 5), "ctrs must be placed as Shard(0) or Replicate()"),
        (lambda: knn(DTensor.from_local(x, mesh, [Partial()]), centres, 5), "x must be placed as"),
        (lambda: knn(rows, placed(square, Shard(0), Replicate()), 5), "x and ctrs must be on one mesh"),
        (
            lambda: knn(placed(square, Replicate(), Replicate()), placed(square, Shard(0), Shard(0)), 5),
            "over one dimension of the mesh",
        ),
        (lambda: knn(rows, centres, 5, mask=torch.ones(23, dtype=torch.bool)), "got mask"),
        (lambda: knn(rows, centres, 0), "k must be at least 1"),
        (lambda: knn(distribute_tensor(x[None], mesh, [Replicate()]), centres, 5), "x must be of two dimensions"),
    ]
    for call, words in cases:
        try:
            call()
        except (TypeError, ValueError) as error:
            if words not in str(error):
                return f"{words}: {error}"
        else:
            return f"{words}: no error"
    return ""


CHECKS = {
    f"dtensors: {function.__name__}": function for function in (answers, among_itself, backwards, no_gather, errors)
}
