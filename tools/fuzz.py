"""Fuzz whole calls against exact arithmetic, each with a limit of time.

`python tools/fuzz.py --problems 20000 --seed 0` prints one line for each failure, which `--only N` repeats, and ends
with 1 if there were any. A problem fails where a row's indices are not the exact ones, where a distance is certainly
not the true one rounded, where a call raises, or where it takes too long: more than ten times what the same call takes
with m and max_memory left alone, or where that takes more than ten times what Gaussian points of its shape take and a
few microseconds for each pair.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests"), str(ROOT / "src")]

from fuzz_families import FAMILIES, cast, one_of  # noqa: E402
from fuzz_oracle import LONG, USABLE, Oracle  # noqa: E402

from extremes import problem as extreme  # noqa: E402
from janelia_core.ml._knn import find as find_module  # noqa: E402
from janelia_core.ml._runtime.machine import Machine, this_machine  # noqa: E402
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc  # noqa: E402
from janelia_core.ml.neighbors import knn  # noqa: E402
from problems import LOW_FORMATS, PLANE, PROBLEMS  # noqa: E402

os.environ.setdefault("JANELIA_CORE_KERNELS", "wait")  # kernels are what is tried
PER_PAIR = 5e-6  # seconds: near-ties are settled in bulk
WIDE, PER_WIDE = (torch.int64, torch.uint64), 5e-7  # seconds for a coordinate of a pair
SPARE = 3.0  # seconds: for what else runs on the machine, and for machines of half the speed
GIVE_UP = 60.0  # seconds after which a call counts as stuck
MOST = 3_000_000  # n * n_ctrs * d
CHECKED = 150  # rows of a problem that are compared, drawn at random


class Call(NamedTuple):
    """One problem: what is called, on what, on which machine."""

    x: Tensor
    ctrs: Tensor
    k: int
    m: int
    memory: int
    way: str  # "knn_mc", "knn_do" or a metric
    machine: str
    seed: int
    name: str


def make(seed: int) -> Call:
    """Return the problem of a seed."""
    g = torch.Generator().manual_seed(seed)
    way = str(one_of(g, "knn_mc", "knn_do", *PLANE))
    x, ctrs, family = _data(g)
    n_ctrs = len(ctrs)
    k = min(n_ctrs, int(one_of(g, 1, 2, 5, 10, 50, n_ctrs - 1 or 1, n_ctrs)))
    if k * len(x) > 200_000:
        k = 5
    m = int(one_of(g, 1, 7, 64, 1000, n_ctrs, 10**9))
    memory = int(one_of(g, 1, 1, 2, 5, 16, 40, 256)) << 20
    machine = str(one_of(g, "this", "this", "no kernels", "float32", "bare", *LOW_FORMATS))
    types = f"{x.dtype} {ctrs.dtype}".replace("torch.", "")
    shape = f"{len(x)} x {n_ctrs} x {x.shape[1]}"
    name = f"{way} {family} {types} {shape} k={k} m={m} MiB={memory >> 20} machine={machine}"
    return Call(x, ctrs, k, m, memory, way, machine, seed, name)


def _data(g: torch.Generator) -> tuple[Tensor, Tensor, str]:
    """Draw points: a family at some size, a problem at the ends of the range, or one of the tests' own."""
    kind = int(torch.randint(0, 10, (), generator=g))
    if kind == 0:
        name = str(one_of(g, *PROBLEMS))
        it = PROBLEMS[name]()
        return it.x, it.ctrs, name.replace(" ", "-")
    if kind == 1:
        number = int(torch.randint(0, 10**6, (), generator=g))
        return *extreme(number)[:2], f"extreme-{number}"
    d = int(one_of(g, 1, 2, 3, 3, 6, 8, 16, 40, 100, 300))
    n_ctrs = int(2.0 ** float(torch.rand((), generator=g) * 12))
    n = max(1, min(int(2.0 ** float(torch.rand((), generator=g) * 12)), MOST // (n_ctrs * d)))
    family = FAMILIES[int(torch.randint(0, len(FAMILIES), (), generator=g))]
    return *cast(g, family(g, (n, n_ctrs, d))), family.__name__


@contextlib.contextmanager
def on(machine: str) -> Iterator[None]:
    """Let searches plan for a machine: this one, or one that can do less."""
    less: dict[str, Callable[[torch.device], Machine]] = {
        "this": this_machine,
        "no kernels": lambda device: replace(this_machine(device), kernels=False, formats=("float32",)),
        "bare": lambda device: Machine(),
    }
    one = less.get(machine, lambda device: replace(this_machine(device), formats=tuple({machine: 0, "float32": 0})))
    with mock.patch.object(find_module, "this_machine", one):
        yield


def answered(call: Call, usual: bool = False) -> tuple[Tensor, Tensor | None]:
    """Return indices (n, k) and distances, with m and memory as the problem has them, or left alone."""
    x, ctrs, k = call.x, call.ctrs, call.k
    m, memory = (len(ctrs), 256 << 20) if usual else (call.m, call.memory)
    with on(call.machine), warnings.catch_warnings():
        warnings.simplefilter("error")
        if call.way == "knn_mc":
            return knn_mc(x, ctrs, k, m, max_memory=memory).T, None
        if call.way == "knn_do":
            g = torch.Generator().manual_seed(call.seed)
            return knn_do(x, ctrs, k, m, _used(call), generator=g, max_memory=memory).T, None
        distances, indices = knn(x, ctrs, k, metric=call.way, m=m, max_memory=memory)
        return indices, distances


def _used(call: Call) -> int:
    return max(call.k, len(call.ctrs) * 2 // 3)


def wrong(call: Call, indices: Tensor, distances: Tensor | None) -> list[str]:
    """Return what is wrong with an answer."""
    metric = call.way if call.way in PLANE else "euclidean"
    oracle = Oracle(call.x, call.ctrs, metric)
    allowed = None
    if call.way == "knn_do":
        allowed = np.zeros(len(call.ctrs), bool)
        drawn = torch.randperm(len(call.ctrs), generator=torch.Generator().manual_seed(call.seed))
        allowed[drawn[: _used(call)].numpy() if _used(call) < len(call.ctrs) else slice(None)] = True
    g = torch.Generator().manual_seed(call.seed)
    rows = torch.randperm(len(call.x), generator=g)[:CHECKED].tolist()
    bad = [i for i in rows if indices[i].tolist() != oracle.nearest(i, call.k, allowed)]
    found = [f"{len(bad)} of {len(rows)} rows wrong, first {bad[0]}"] if bad else []
    if distances is not None:
        far = [i for i in rows if not _may_be(distances[i], *oracle.values(i), indices[i], metric == "euclidean")]
        found += [f"distances of {len(far)} rows wrong, first {far[0]}"] if far else []
    return found


def _may_be(got: Tensor, value: np.ndarray, error: np.ndarray, indices: Tensor, root: bool) -> bool:
    """Tell whether distances of a row lie where the true ones are, rounded."""
    value, error = value[indices.numpy()], np.where(np.isfinite(value[indices.numpy()]), error[indices.numpy()], 0)
    with np.errstate(all="ignore"):
        low, high = value - error, value + error
        if root:
            low, high = np.sqrt(np.maximum(low, 0)) * (1 - LONG(2) ** -62), np.sqrt(high) * (1 + LONG(2) ** -62)
        own = got.numpy()
        same = (low.astype(own.dtype) <= own) & (own <= high.astype(own.dtype))
    return bool((same | (np.isnan(value) & np.isnan(own))).all())


def seconds(work: Callable[[], object]) -> float:
    """Return what a call takes, or GIVE_UP if it does not come back."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, GIVE_UP)
    start = time.perf_counter()
    try:
        work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return time.perf_counter() - start


def too_slow(call: Call, took: float) -> list[str]:
    """Return what takes too long. A breach is measured again, in case it was the machine."""
    usual = seconds(lambda: answered(call, usual=True))
    if took > 10 * usual + SPARE:
        took = min(took, seconds(lambda: answered(call)))
        usual = max(usual, seconds(lambda: answered(call, usual=True)))
    if took > 10 * usual + SPARE:
        return [f"{took:.2f} s, and {usual:.2f} s with m and memory left alone"]
    limit = SPARE + PER_PAIR * len(call.x) * (len(call.ctrs) + call.k)
    if call.x.dtype in WIDE or call.ctrs.dtype in WIDE:  # distances beyond 2^53 are computed in Python's integers
        limit += PER_WIDE * len(call.x) * call.k * call.x.shape[1]
    if usual <= limit:
        return []
    g = torch.Generator().manual_seed(call.seed)
    plain = call._replace(x=torch.randn(call.x.shape, generator=g), ctrs=torch.randn(call.ctrs.shape, generator=g))
    ordinary = seconds(lambda: answered(plain, usual=True))
    usual = min(usual, seconds(lambda: answered(call, usual=True)))
    return [f"{usual:.2f} s, and {ordinary:.2f} s for Gaussian points"] if usual > limit + 10 * ordinary else []


def failures(seed: int) -> list[str]:
    """Return what is wrong with a problem, each with all that is needed to find it again."""
    call = make(seed)
    found: list[str] = []
    answer: list[tuple[Tensor, Tensor | None]] = []
    try:
        took = seconds(lambda: answer.append(answered(call)))
        found = wrong(call, *answer[0]) + too_slow(call, took)
    except TimeoutError:
        found = [f"did not come back in {GIVE_UP:.0f} s"]
    except Exception as error:
        found = [f"{type(error).__name__}: {str(error)[:200]}"]
    return [f"--only {seed}: {call.name}: {line}" for line in found]


def main(arguments: list[str] | None = None) -> int:
    """Run the problems of the command line; return how the process ends."""
    parser = argparse.ArgumentParser(
        description="Fuzz whole calls against exact arithmetic, each with a limit of time."
    )
    parser.add_argument("--problems", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the first problem (default: 0)")
    parser.add_argument("--only", type=int, help="this problem alone")
    options = parser.parse_args(arguments)
    if not USABLE:
        print("the oracle needs numpy.longdouble to be x87's extended precision")
        return 2
    first = options.seed * 10**6
    seeds = range(first, first + options.problems) if options.only is None else [options.only]
    bad = 0
    for seed in seeds:
        lines = failures(seed)
        bad += bool(lines)
        print("".join(f"{line}\n" for line in lines), end="", flush=True)
    print(f"{len(seeds)} problems, {bad} failed")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
