"""Compare what two checkouts answer, byte by byte: `python tools/compare_checkouts.py OTHER --problems 10000`.

Each checkout answers the same problems, drawn by its own tools/fuzz.py, in a process of its own; a line for each that
differs. The end is 1 if there are any.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parents[1]

WORKER = """
import hashlib, sys
sys.path.insert(0, "tools")
import fuzz
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    call = fuzz.make(seed)
    try:
        parts = fuzz.answered(call)
        held = [part.contiguous().numpy() for part in parts if part is not None]
        text = " ".join(f"{part.dtype} {hashlib.sha1(part.tobytes()).hexdigest()}" for part in held)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    print(f"{seed} {call.name}: {text}", flush=True)
"""


def answers(checkout: Path, first: int, last: int) -> subprocess.Popen[str]:
    """Start a process that prints a line for each problem."""
    paths = os.pathsep.join(str(checkout / folder) for folder in ("src", "tests", "tools"))
    command = [sys.executable, "-c", WORKER, str(first), str(last)]
    return subprocess.Popen(
        command, cwd=checkout, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True
    )


def differences(one: Path, other: Path, first: int, last: int) -> Iterator[str]:
    """Yield the answers that differ."""
    running = [answers(checkout, first, last) for checkout in (one, other)]
    lines = [process.stdout or () for process in running]
    count = 0
    for mine, theirs in zip(*lines, strict=False):
        count += 1
        if mine != theirs:
            yield f"{mine}{theirs}"
    if any(process.wait() for process in running) or count < last - first:
        yield f"a process ended after {count} problems\n"


def main() -> int:
    """Run the problems of the command line; return how the process ends."""
    parser = argparse.ArgumentParser(description="Compare what two checkouts answer, byte by byte.")
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--problems", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first problem (default: 0)")
    options = parser.parse_args()
    count = 0
    for line in differences(HERE, options.other.resolve(), options.seed, options.seed + options.problems):
        print(line, end="", flush=True)
        count += 1
    print(f"{options.problems} problems, {count} differ")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
