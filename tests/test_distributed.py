"""Centres in shards of processes give the answer of one process, byte for byte, and fail together."""

from __future__ import annotations

import functools
import multiprocessing
import os

import pytest

import distributed_checks
import distributed_faults
import distributed_memory
import distributed_tensors
import ranks

OF_ALL = distributed_checks.CHECKS
CHECKS = {
    2: {name: OF_ALL[name] for name in ("of_problems", "gradients")},
    3: {**OF_ALL, **distributed_tensors.CHECKS},
}
"""By how many processes make them; tools/distributed_worlds.py asks more of more."""


@functools.cache
def outcome(size: int) -> dict[str, str]:
    """Return what each check found wrong in a group of so many processes, which are started once for all checks."""
    found = ranks.together(size, distributed_checks.run, CHECKS[size])
    return {
        name: "\n".join(f"process {rank}: {one[name]}" for rank, one in enumerate(found) if one[name])
        for name in CHECKS[size]
    }


@pytest.mark.parametrize(("size", "check"), [(size, check) for size, checks in CHECKS.items() for check in checks])
def test_processes_agree_with_one_process(size: int, check: str) -> None:
    assert outcome(size)[check] == ""


@functools.cache
def trials() -> list[list[distributed_faults.Trial]]:
    """Return how each of 30 trials went on each of three processes, one of which failed."""
    found = ranks.together(3, distributed_faults.trials, 30)
    return [list(trial) for trial in zip(*found, strict=True)]


def test_who_fails_raises_its_own_error_and_all_others_say_so() -> None:
    for trial in trials():
        for rank, one in enumerate(trial):
            own = one.kind in {error.__name__ for error in distributed_faults.ERRORS}
            assert own if rank == one.failed else one.kind == "DistributedError", trial
            assert "thrown on purpose" in one.text, trial
            assert rank == one.failed or f"process {one.failed} of 3 failed (" in one.text, trial


def test_all_raise_within_a_second_of_the_one_that_fails() -> None:
    late = sorted(max(one.met for one in trial) - max(one.thrown for one in trial) for trial in trials())
    assert late[len(late) // 2] < 1.0
    assert late[-1] < 10.0  # a busy machine may take a pause; none waits for the group's timeout of a minute


@pytest.mark.parametrize(("how", "timeout"), [(distributed_faults.KILL, 60), (distributed_faults.STOP, 2)])
def test_processes_that_lose_one_name_the_stage_by_the_timeout_of_the_group(how: int, timeout: float) -> None:
    *others, _ = ranks.together(3, distributed_faults.gone, how, timeout=timeout, missing=2)
    for stage, words, seconds in others:
        assert stage == "searching", words
        assert "of 3 lost the others (" in words
        assert words.endswith("), while searching")
        assert seconds < 20


def test_no_process_is_left_behind() -> None:
    *_, last = ranks.together(2, distributed_faults.gone, distributed_faults.STOP, timeout=1, missing=1)
    assert last is None
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_the_workspace_of_a_process_is_within_its_memory() -> None:
    for used in ranks.together(2, distributed_memory.workspaces, 4 << 20):
        assert {name: peak for name, peak in used.items() if peak > 4 << 20} == {}
