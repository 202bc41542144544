"""GPUs by figures of their makers, and what one of them was measured to reach of these.

Makers' figures are those of data sheets at the boost clock; float16 products with float32 sums, no sparsity.
"""

from __future__ import annotations

from typing import NamedTuple

from janelia_core.ml._runtime.gpu import Gpu


class Chip(NamedTuple):
    """A GPU.

    Attributes:
        name: For people.
        gpu: As plans know it.
        float16: FLOP/s of float16 products with float32 sums. Maker.
        memory: Bytes a second. Maker.
        float64: FLOP/s outside of matrix units, a fused operation counted as two. Maker.
        clock: Hz of which the above follow. Maker.
        cache: Bytes of the second level. Maker.
        holds: Bytes of its memory. Maker.
    """

    name: str
    gpu: Gpu
    float16: float
    memory: float
    float64: float
    clock: float
    cache: float
    holds: float

    @property
    def operations(self) -> float:
        """Maxima, comparisons and integer operations a second: 64 a processor and clock (CUDA's programming guide)."""
        return 64.0 * self.gpu.processors * self.clock


CHIPS = (
    Chip("H100 SXM", Gpu(90, 132), 989e12, 3.35e12, 34e12, 1.83e9, 50e6, 80e9),
    Chip("A100 SXM 80 GB", Gpu(80, 108, descriptors=False), 312e12, 2.04e12, 9.7e12, 1.41e9, 40e6, 80e9),
    Chip("L40S", Gpu(89, 142, descriptors=False), 362e12, 0.864e12, 1.43e12, 2.49e9, 96e6, 48e9),
    Chip("RTX 4090", Gpu(89, 128, descriptors=False), 165e12, 1.008e12, 1.29e12, 2.52e9, 72e6, 24e9),
)

# Measured on an H100 80GB HBM3 (torch 2.11, Triton 3.6, 2026-11-26; one run of the first version that ran there, four
# searches by kernel). On other chips the same shares are an assumption.
REACHED = {
    ("scan", "products"): 0.65,  # 0.64 to 0.66; 0.51 of 768 columns
    ("pack", "memory"): 0.48,  # 0.44 to 0.52
    ("measure", "memory"): 0.48,
    ("list_members", "memory"): 0.95,  # 0.84 to 1.1: some of it is still in the cache
    ("choose_first", "operations"): 0.17,
    ("choose_again", "operations"): 0.35,
    ("rank", "memory"): 0.33,
}
"""Which share of a limit a kernel reaches; of others it is not known, and the limit is what is expected."""

VERIFIED_AS = 260
"""Ordinary operations that would take as long as a verified coordinate does: 17 ps, 15 to 22. Measured: it waits."""

SHORTEST = 3e-6
"""Seconds that the shortest kernels take. Measured: 16 copies of a few bytes, 46 microseconds."""
PER_LAUNCH = 21e-6
"""Seconds of the host for a launch, Python's part included. Measured: searches of little work, 93 launches, 2 ms."""
BY_TORCH, BY_TORCH_SORTED = 77, 143
"""Launches of torch's operations in a call beside the screen's own. Measured; the second where torch sorts lists."""
CUBLAS = 755e12
"""FLOP/s of the bare product with the maker's library on the H100. Measured: 744 to 765."""

FIRST_RUN = {
    "10,000 x 100,000 x 128, k = 10": 3.08,
    "100,000 x 1,024 x 64, k = 1": 2.88,
    "1 x 1,000,000 x 128, k = 10": 2.78,
    "100,000 x 1,000,000 x 128, k = 10": 52.14,
    "100,000 x 1,000,000 x 64, k = 10": 28.16,
    "30,000 x 500,000 x 256, k = 10": 17.94,
    "10,000 x 10,000,000 x 768, k = 100, float16": 373.66,
}
"""Milliseconds of whole searches in that run; `results/gpu.json`, once it is there, takes their place."""
