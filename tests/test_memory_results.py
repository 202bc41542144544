"""What a call holds beyond inputs and results stays within max_memory, however large its results are."""

from __future__ import annotations

import pytest

import fresh_process

MEASURE = """
import ctypes, resource, sys
import torch
from janelia_core.ml._knn.small import at_once as small
from janelia_core.ml.neighbors import knn, knn_graph

what, mebibytes, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(0)
small._PATIENCE = -1.0  # kernels are loaded at once, not when torch has taken as long
budget = {"max_memory": mebibytes << 20}


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def give_back():
    '''Hand freed memory back to the system: what the next call takes of it would not be seen.'''
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)


def forget_peak():
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")


def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


def problem(share=1):
    '''Return a call's arguments; a share of it loads libraries, kernels and their one-off buffers.'''
    n, part = 60_000 // share, lambda number: max(2, number // share)
    x, ctrs = torch.rand(n, 3), torch.rand(2000, 3)
    if what == "large batches":
        return (torch.rand(2, n // 2, 3), torch.rand(2, 2000, 3), 20), {}
    if what == "small batches":
        return (torch.rand(n // 100, 100, 3), torch.rand(n // 100, 30, 3), 20), {}
    if what == "shared centres":
        return (torch.rand(4, n // 4, 3), ctrs, 20), {"lengths": torch.tensor([n // 4, 9, n // 5, n // 4])}
    if what == "ragged":
        rows, columns = torch.randint(0, 40, (n,)).sort().values, torch.randint(0, 40, (2000,)).sort().values
        return (x, ctrs, 20), {"x_batch": rows, "ctrs_batch": columns}
    if what == "ragged among itself":
        return (x, None, 20), {"x_batch": torch.arange(n) // 300}
    if what == "among itself":
        return (x, None, 20), {}
    if what == "lengths":
        lengths = torch.randint(0, n // 4 + 1, (4,))
        return (torch.rand(4, n // 4, 3), None, 20), {"lengths": lengths}
    if what == "cosine":
        return (x, ctrs, 20), {"metric": "cosine"}
    if what == "mask":
        kinds = torch.randint(0, 2, (n,)), torch.randint(0, 2, (300,))
        mask = lambda rows, first, last: kinds[0][rows, None] == kinds[1][first:last]
        return (x, torch.rand(300, 3), 20), {"mask": mask}
    if what == "large k":
        return (torch.rand(part(2000), 8), torch.rand(3000, 8), 600), {}
    if what == "everything":
        return (torch.rand(part(4000), 3), torch.rand(400, 3), 500), {}
    return (x, ctrs, 20), {}


def touched(*shapes_and_dtypes):
    '''Hold pages as the results will.'''
    return [torch.zeros(shape, dtype=dtype).add_(1) for shape, dtype in shapes_and_dtypes]
"""

FORWARD = """
gradients = len(sys.argv) > 4
def call(args, options):
    if gradients:
        args = [a.requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
    return knn(*args, **options, **budget)

call(*problem())  # loads libraries, kernels and their one-off buffers
give_back()
torch.manual_seed(0)  # the same problem: another one's lengths may want other kernels, which are compiled then
args, options = problem()
forget_peak()
before = resident()
found = call(args, options)
results = sum(t.nbytes for t in found)
print(peak() - before - results, results)
"""

BACKWARD = """
order, metric = int(sys.argv[4]), sys.argv[5]

def once(args, options, measure):
    x, ctrs, *rest = args
    dtype = torch.float32 if metric != "half" else torch.float16
    x, ctrs = (t.to(dtype).requires_grad_() if t is not None else None for t in (x, ctrs))
    points = [t for t in (x, ctrs) if t is not None]
    options = {**options, "metric": "euclidean" if metric == "half" else metric}
    found = knn(x, ctrs, *rest, **options, **budget)
    out = found.distances
    out = out.masked_fill(found.indices < 0, 0) if (found.indices < 0).any() else out
    weight = torch.ones(()) .expand(out.shape)
    held = 0
    if order == 2:
        first = torch.autograd.grad(out, points, weight, create_graph=True)
        held = 2 * sum(t.nbytes for t in first)
        out, weight = first, [torch.ones_like(t) for t in first]
    forget_peak()
    before = resident()
    grads = torch.autograd.grad(out, points, weight)
    return peak() - before - sum(t.nbytes for t in grads), found.distances.nbytes

once(*problem(8), False)
print(*once(*problem(), True))
"""

FORWARDS = [
    *("large batches", "small batches", "shared centres", "ragged", "ragged among itself", "among itself"),
    *("lengths", "cosine", "mask", "large k", "everything"),
]


def check(program: str, *arguments: object, mebibytes: int, allowed: int = 0) -> None:
    done = fresh_process.run(MEASURE + program, *arguments)
    assert done.returncode == 0, done.stderr
    held, results = map(int, done.stdout.split())
    print(arguments, f"{held / 2**20:.1f} of {mebibytes} MiB, results {results / 2**20:.1f}")
    assert held <= (mebibytes << 20) + allowed, f"held {held / 2**20:.1f} MiB of {mebibytes}"


@pytest.mark.parametrize("what", FORWARDS)
def test_a_call_holds_no_more_beyond_its_results_than_it_was_allowed(what):
    check(FORWARD, what, 6, 1, mebibytes=6)


@pytest.mark.parametrize("what", ["large batches", "among itself", "cosine"])
def test_nor_does_one_whose_gradients_are_to_come(what):
    check(FORWARD, what, 6, 1, "gradients", mebibytes=6, allowed=20 * 62_000 * 3 * (what == "cosine"))


@pytest.mark.parametrize(
    ("what", "metric"),
    [
        ("flat", "euclidean"),
        ("flat", "half"),
        ("large batches", "sqeuclidean"),
        ("ragged", "dot"),
        ("small batches", "cosine"),
    ],
)
def test_nor_does_backward(what, metric):
    check(BACKWARD, what, 6, 1, 1, metric, mebibytes=6, allowed=20 * 62_000 * 3 * (metric in ("cosine", "half")))


@pytest.mark.parametrize(("what", "metric"), [("flat", "euclidean"), ("large batches", "sqeuclidean")])
def test_nor_does_backward_of_backward(what, metric):
    check(BACKWARD, what, 6, 1, 2, metric, mebibytes=6)
