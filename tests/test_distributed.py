"""Centres in shards of processes give the answer of one process, byte for byte, and fail together."""

from __future__ import annotations

import functools

import pytest

import distributed_checks
import ranks

WORLDS = (1, 2, 3)


@functools.cache
def outcome(size: int) -> dict[str, str]:
    """Return what each check found wrong in a group of so many processes, which are started once for all checks."""
    found = ranks.together(size, distributed_checks.run, list(distributed_checks.CHECKS))
    return {
        name: "\n".join(f"process {rank}: {one[name]}" for rank, one in enumerate(found) if one[name])
        for name in distributed_checks.CHECKS
    }


@pytest.mark.parametrize("check", distributed_checks.CHECKS)
@pytest.mark.parametrize("size", WORLDS)
def test_processes_agree_with_one_process(size: int, check: str) -> None:
    assert outcome(size)[check] == ""
