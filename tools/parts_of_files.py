"""Parts 1, 3, 7, 50 of a search among 60,000 near-tied points, each part and the merge killed at random moments.

    python tools/parts_of_files.py [KILLS]

Prints, for every kind of near-ties and every number of parts, whether the merged file has the bytes of the whole
search's, which share of the centres the merge read, and how many kills there were; exits with 1 if any byte differs.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from janelia_core.files import merge_files, save_vectors, search_files

N, N_SMPS, K = 60_000, 300, 10


def near_ties(draw: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
    """Return centres and queries by what makes them tie."""
    sphere = torch.nn.functional.normalize(torch.randn(N, 8, generator=draw))
    some = torch.randn(N // 100, 8, generator=draw).repeat(100, 1)
    moved = torch.where(torch.rand(some.shape, generator=draw) < 0.1, torch.nextafter(some, some + 1), some)
    x = torch.randn(N_SMPS, 8, generator=draw)
    tenths = (torch.randint(0, 8, (n, 6), generator=draw).float() * 0.1 for n in (N, N_SMPS))
    return {
        "equidistant but for 1e-4": (sphere, x * 1e-4),
        "an ulp apart": (moved, x),
        "copies": (torch.randn(N // 3, 8, generator=draw).repeat(3, 1), x),
        "a lattice of tenths": (next(tenths), next(tenths)),
    }


def killed(work: Callable[[], object], chances: int) -> int:
    """Do some work in processes that are killed, and at last in one that is not; return how many were."""
    kills = 0
    for chance in range(chances + 1):
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        if chance < chances:
            time.sleep(random.uniform(0, 0.3))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            if status != 0:
                raise RuntimeError("a search failed that was to go on")
            break
        kills += 1
    return kills


def main() -> int:
    """Search, kill, merge, compare."""
    torch.set_num_threads(1)  # a process that has no threads can be forked
    chances = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    random.seed(0)
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, query = folder / "c.npy", folder / "x.npy"
        for kind, (ctrs, x) in near_ties(torch.Generator().manual_seed(1)).items():
            save_vectors(base, ctrs)
            save_vectors(query, x)
            search_files(base, query, k=K, out=folder / "whole.npz")
            for n in (1, 3, 7, 50):
                parts = [folder / f"{n}.{i}.part" for i in range(n)]
                kills = 0
                for i, part in enumerate(parts):
                    part.unlink(missing_ok=True)
                    options = {"k": K, "out": part, "part": (i, n), "resume": True, "max_memory": "2MiB"}
                    kills += killed(lambda options=options: search_files(base, query, **options), chances)
                merged = folder / f"{n}.npz"
                kills += killed(lambda p=parts, m=merged: merge_files(p, m, resume=True, max_memory="4MiB"), chances)
                same = merged.read_bytes() == (folder / "whole.npz").read_bytes()
                share = merge_files(parts, merged).share_taken
                wrong += not same or merged.read_bytes() != (folder / "whole.npz").read_bytes()
                print(
                    f"{kind:<26} {n:>2} parts: same {same}, {share:.2%} of the centres read, {kills} kills", flush=True
                )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
