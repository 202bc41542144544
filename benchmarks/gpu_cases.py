"""Searches that tell how fast a GPU is: what `gpu_model.py` computes, and `gpu.py` measures."""

from __future__ import annotations

from typing import NamedTuple

GIB = 1 << 30


class Shape(NamedTuple):
    """Gaussian points on the device.

    Attributes:
        n: Rows.
        n_ctrs: Centres.
        d: Coordinates.
        k: Neighbours.
        half: Points are float16, else float32.
        memory: `max_memory`; None: what knn_mc takes by itself.
    """

    n: int
    n_ctrs: int
    d: int
    k: int
    half: bool = False
    memory: int | None = None

    def __str__(self) -> str:
        kind = ", float16" if self.half else ""
        return f"{self.n:,} x {self.n_ctrs:,} x {self.d}, k = {self.k}{kind}"

    @property
    def nbytes(self) -> int:
        """Of a coordinate."""
        return 2 if self.half else 4


TABLE = (Shape(100_000, 1_000_000, 128, 10), Shape(10_000, 10_000_000, 768, 100, True, 32 * GIB))
"""Those that have goals."""

SHAPES = (
    Shape(10_000, 100_000, 128, 10),
    Shape(100_000, 100_000, 128, 10),
    Shape(100_000, 1024, 64, 1),
    Shape(1, 1_000_000, 128, 10),
    Shape(1000, 1_000_000, 128, 10),
    TABLE[0],
    Shape(100_000, 1_000_000, 64, 10),
    Shape(30_000, 500_000, 256, 10),
    TABLE[1],
    Shape(1_000_000, 1_000_000, 3, 16),
)
"""The quick ones first; the last is the longest for others."""
