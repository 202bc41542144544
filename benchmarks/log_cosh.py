"""Compare log_cosh with other formulas: error in ulp, time, saved bytes, and the picture of the error.

python benchmarks/log_cosh.py accuracy     # the table of errors and docs/images/log_cosh_ulp.png
python benchmarks/log_cosh.py time         # interleaved timings, the least of several runs
python benchmarks/log_cosh.py sweep        # every float32, ours: largest error, order (about 10 minutes)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from log_cosh_rivals import RIVALS
from torch import Tensor

from janelia_core.ml import log_cosh
from janelia_core.ml._log_cosh import blocks, formulas

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "log_cosh_ulp.png"
CONTENDERS = {"ours": log_cosh, **RIVALS}


def truth(a: np.ndarray) -> np.ndarray:
    """log(cosh(a)) for a >= 0, in the precision of `a`, which must exceed the one judged."""
    inner = np.minimum(a, 40)
    return np.where(a > 40, a - np.log(a.dtype.type(2)), np.log1p(np.sinh(inner) ** 2) / 2)


def errors(y: Tensor, x: Tensor) -> np.ndarray:
    """Error of y in ulp of the true log cosh(x); infinite where y isn't finite."""
    wide = np.longdouble if x.dtype == torch.float64 else np.float64
    right = truth(x.abs().double().numpy().astype(wide))
    return in_ulp(y, right)


def in_ulp(y: Tensor, right: np.ndarray) -> np.ndarray:
    values = y.numpy()
    with np.errstate(over="ignore"):  # the spacing above the largest number
        error = np.abs(values.astype(right.dtype) - right) / np.spacing(right.astype(values.dtype))
    return np.nan_to_num(error.astype(np.float64), nan=np.inf, posinf=np.inf)


def samples(dtype: torch.dtype, n: int = 3_000_000) -> Tensor:
    """Log-uniform over 2^-40 .. 2^40, both signs."""
    generator = torch.Generator().manual_seed(0)
    magnitude = torch.exp2(torch.rand(n, dtype=torch.float64, generator=generator) * 80 - 40)
    return (magnitude * torch.sign(torch.rand(n, dtype=torch.float64, generator=generator) - 0.5)).to(dtype)


def accuracy() -> None:
    """Print the largest errors by range, and draw the picture."""
    ranges = [(2.0**-40, 1e-3), (1e-3, 0.5), (0.5, 2.0), (2.0, 88.0), (88.0, 2.0**40)]
    for dtype in (torch.float32, torch.float64):
        x = samples(dtype)
        a = x.abs().double().numpy()
        print(f"\n{dtype}\n| formula | " + " | ".join(f"{low:.2g} .. {high:.2g}" for low, high in ranges) + " |")
        for name, f in CONTENDERS.items():
            error = errors(f(x), x)
            worst = (error[(a >= low) & (a < high)].max() for low, high in ranges)
            print(f"| `{name}` | " + " | ".join(f"{w:.3g}" for w in worst) + " |")
    draw()


def draw() -> None:
    """Save the largest error in each of 400 bins of |x|, float32."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    x = samples(torch.float32)
    bins = np.linspace(-12, 6, 400)
    place = np.digitize(np.log10(x.abs().numpy()), bins)
    figure, axes = plt.subplots(figsize=(9, 4.5), dpi=130)
    for name, f in reversed(CONTENDERS.items()):
        worst = np.full(len(bins) + 1, np.nan)
        error = errors(f(x), x)
        np.fmax.at(worst, place, np.minimum(error, 1e30))
        ours = name == "ours"
        axes.plot(10 ** bins[:-1], worst[1:-1], lw=2.5 if ours else 1, color="black" if ours else None, label=name)
    axes.axhline(2, color="grey", ls=":", lw=1)
    axes.set(xscale="log", yscale="log", xlim=(1e-9, 1e4), ylim=(0.1, 1e16))
    axes.set(xlabel="|x|", ylabel="largest error (ulp)", title="log cosh in float32; dotted: 2 ulp")
    axes.legend(fontsize=8)
    figure.tight_layout()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE)


def clone(x: Tensor) -> Tensor:
    return x.clone()


def seconds(f: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        f()
    return (time.perf_counter() - start) / repeats


def least(jobs: dict[str, Callable[[], object]], repeats: int, rounds: int) -> dict[str, float]:
    """The least time of each job over rounds that interleave them, so that load hits all alike."""
    best = dict.fromkeys(jobs, float("inf"))
    for job in jobs.values():
        job()
    for _ in range(rounds):
        for name, job in jobs.items():
            best[name] = min(best[name], seconds(job, repeats))
    return best


def backward(f: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    g = torch.ones_like(x)
    return lambda: torch.autograd.grad(f(x), x, g)


def saved_bytes(f: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Bytes kept for backward, x's own included, each storage once."""
    kept: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        result = f(x)
    del result
    return sum(kept.values())


def times() -> None:
    """Print forward, forward + backward and saved bytes for each formula and size."""
    for dtype, n, repeats, rounds in (
        (torch.float32, 1_000, 100, 60),
        (torch.float64, 1_000, 100, 60),
        (torch.float32, 20_000_000, 1, 15),
        (torch.float64, 10_000_000, 1, 9),
    ):
        x = torch.randn(n, dtype=dtype)
        leaf = x.clone().requires_grad_()
        jobs = {"torch.clone": clone, **CONTENDERS}
        forward = least({k: partial(f, x) for k, f in jobs.items()}, repeats, rounds)
        both = least({k: backward(f, leaf) for k, f in jobs.items()}, repeats, max(rounds // 3, 3))
        print(f"\n{dtype}, {n} elements, {torch.get_num_threads()} threads; warm: memory freed and used again")
        print("| formula | forward (us) | / ours | forward + backward (us) | / ours | saved bytes / element |")
        for k, f in jobs.items():
            saved = saved_bytes(f, leaf) / n
            row = (
                forward[k] * 1e6,
                forward[k] / forward["ours"],
                both[k] * 1e6,
                both[k] / both["ours"],
                saved,
            )
            print(f"| `{k}` | " + " | ".join(f"{v:.3g}" for v in row) + " |")
    into_warm_memory()


def into_warm_memory(n: int = 20_000_000) -> None:
    """Compare our kernel with a copy when the result's pages exist already."""
    x, out = torch.randn(n), torch.zeros(n)
    run = blocks._kernel_block(blocks._kernels(), "log_cosh", [x], out)
    jobs = {"copy_": lambda: out.copy_(x), "kernel": lambda: blocks._run(run, n, blocks.KERNEL_BLOCK)}
    print("\ninto existing pages:", {k: f"{v * 1e9 / n:.3g} ns/element" for k, v in least(jobs, 1, 15).items()})


def by_torch(x: Tensor) -> Tensor:
    return formulas.log_cosh(x, formulas.CPU_TENSORS[x.dtype])


def by_kernel(x: Tensor) -> Tensor:
    assert x.numel() >= blocks.LARGE
    return log_cosh(x)


def by_double(x: Tensor) -> Tensor:
    return formulas.log_cosh_in_double(x).float()


def sweep() -> None:
    """Check every non-negative finite float32 (the function is even by construction: it starts with |x|)."""
    paths = {"kernel": by_kernel, "double": by_double, "torch operations": by_torch}
    worst = dict.fromkeys(paths, (0.0, 0.0))
    last = dict.fromkeys(paths, 0.0)
    step = 1 << 22
    for start in range(0, 0x7F800000, step):
        x = torch.arange(start, start + step, dtype=torch.int32).view(torch.float32)
        right = truth(x.double().numpy())
        for name, f in paths.items():
            y = f(x)
            error = in_ulp(y, right)
            i = int(error.argmax())
            worst[name] = max(worst[name], (float(error[i]), float(x[i])))
            if not (bool((y[1:] >= y[:-1]).all()) and float(y[0]) >= last[name]):
                raise AssertionError(f"{name} isn't monotone near {float(x[0])}")
            last[name] = float(y[-1])
    for name, (error, at) in worst.items():
        print(f"{name}: largest error {error:.4f} ulp, at {at!r}; monotone")


if __name__ == "__main__":
    {"accuracy": accuracy, "time": times, "sweep": sweep}[sys.argv[1]]()
