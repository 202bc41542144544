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

# Measured on an H100 80GB HBM3 (torch 2.11, Triton 3.6, 2026-11-26; single runs of a development version, the searches
# of RUNS by kernel). On other chips the same shares are an assumption.
REACHED = {
    ("scan", "products"): 0.65,  # 0.64 to 0.66; 0.74 of 768 columns
    ("pack", "memory"): 0.62,
    ("measure", "memory"): 0.86,
    ("list_members", "memory"): 0.95,  # 0.41 of 768 columns
    ("choose_first", "operations"): 0.36,
    ("choose_again", "operations"): 0.44,
    ("choose_known", "memory"): 0.3,
    ("topk", "memory"): 0.25,
    ("rank", "memory"): 0.33,
}
"""Which share of a limit a kernel reaches; of others it is not known, and the limit is what is expected."""

VERIFIED_AS = 130
"""Ordinary operations that would take as long as a verified coordinate does, 8.5 ps. Measured: it waits for memory."""
SHORTEST = 3e-6
"""Seconds that the shortest kernels take. Measured: 16 copies of a few bytes, 46 microseconds."""
BESIDE, PER_LAUNCH = 0.8e-3, 16e-6
"""Seconds of the host: before and behind the device's work, and of a launch, while the device works. Measured: searches
of little work take 1.07 ms with 17 launches, 1.64 ms with 52."""
BY_TORCH, TO_ORDER, TO_TOPK, TO_SORT = 6, 14, 20, 58
"""Launches of torch's operations: in any search; where centres are put in the order of their norms; where torch finds
thresholds; where it sorts lists. Measured: 17, 40, 52 and 97 launches of four searches, less the screen's own."""

RUNS = {
    "10,000 x 100,000 x 128, k = 10": 3.08,
    "100,000 x 1,024 x 64, k = 1": 1.21,
    "1 x 1,000,000 x 128, k = 10": 2.78,
    "100,000 x 1,000,000 x 128, k = 10": 46.82,
    "100,000 x 1,000,000 x 64, k = 10": 28.16,
    "30,000 x 500,000 x 256, k = 10": 17.94,
    "10,000 x 10,000,000 x 768, k = 100, float16": 311.73,
}
"""Milliseconds of whole searches there: the second run's where it has them, else the first one's, whose version was
slower by up to a third; `results/gpu.json`, once it is there, takes their place."""
