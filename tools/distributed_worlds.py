"""Compare searches among processes with one process over all of tests/problems.py, and with DTensors: minutes.

python tools/distributed_worlds.py 4 7
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import distributed_checks
import distributed_tensors
import ranks
from problems import PROBLEMS

METRICS = ("euclidean", "dot", "cosine", "manhattan", "chebyshev")


def main() -> None:
    """Print what differs for each number of processes."""
    wrong = 0
    for size in map(int, sys.argv[1:] or ("4", "7")):
        started = time.monotonic()
        found = ranks.together(size, distributed_checks.of_problems, list(PROBLEMS), METRICS, timeout=600, limit=3600)
        found += ranks.together(size, distributed_tensors.answers, timeout=600, limit=3600)
        wrong += sum(map(bool, found))
        print(f"{size} processes, {len(PROBLEMS)} problems, {len(METRICS)} metrics,", end=" ")
        print(f"{time.monotonic() - started:.0f} s: {next(filter(None, found), 'the same bytes')}", flush=True)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
