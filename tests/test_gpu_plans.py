"""Plans for GPUs, and for CPUs, which know of none: by sizes alone, so that no GPU is wanted."""

from __future__ import annotations

import random

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._runtime.gpu import Gpu
from janelia_core.ml._runtime.machine import Machine

FOR_GPUS = ("triton", "boxes")


def drawn(seed: int, gpu: Gpu | None) -> Plan:
    """Return a plan for a problem of random sizes, within 1 MiB to 64 GiB, where there is a GPU or none."""
    pick = random.Random(seed)
    n, n_ctrs = (int(2 ** pick.uniform(0, 26)) for _ in range(2))
    d, k = (int(2 ** pick.uniform(0, most)) for most in (pick.choice((3, 12)), 10))
    machine = Machine(exact_products=True, gpu=gpu)
    metric, masked = pick.choice(("euclidean", "cosine", "dot")), pick.random() < 0.2
    budget = int(2 ** pick.uniform(20, 36))
    return make_plan(n, n_ctrs, d, min(k, n_ctrs), n_ctrs, machine=machine, budget=budget, metric=metric, masked=masked)


def test_a_gpu_keeps_to_the_memory_that_suffices_without_one() -> None:
    met = set()
    for seed in range(400):
        plan, without = drawn(seed, Gpu()), drawn(seed, None)
        met.add(plan.screen)
        assert plan.workspace_bytes <= max(plan.problem.budget, without.workspace_bytes), plan
        assert min(plan.blocks.rows, plan.blocks.verified_rows) > 0
        if plan.screen in FOR_GPUS:
            assert min(plan.own.rows, getattr(plan.own, "again", 1), getattr(plan.own, "tiles", 1)) > 0
            assert plan.workspace_bytes <= plan.problem.budget
    assert met.issuperset(FOR_GPUS)


def test_where_kernels_for_gpus_are_not_taken_plans_say_why() -> None:
    tight = make_plan(4210, 203, 3113, 2, 203, machine=Machine(gpu=Gpu()), budget=4618760)
    assert (tight.screen, "too little for a row in doubt" in tight.reason) == ("portable", True)
    old = make_plan(4210, 203, 31, 2, 203, machine=Machine(no_gpu="Triton 2.0 is older than 3.2"))
    assert old.reason == "torch operations: Triton 2.0 is older than 3.2"


def test_plans_for_a_cpu_say_nothing_of_gpus() -> None:
    plan = make_plan(4000, 20000, 31, 2, 20000, machine=Machine(on_cpu=True))
    assert plan.reason == "torch operations: Numba kernels need a CPU tensor and an installed numba"
