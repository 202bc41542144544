"""What the brief ways are told, and what they answer."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from janelia_core.ml._runtime.arrays import B8, Reals

FLOATS = (torch.float32, torch.float64)
"""Dtypes of rows and centres."""


class Sizes(NamedTuple):
    """What tells which way takes a search.

    Attributes:
        n: Rows.
        n_ctrs: Centres.
        d: Coordinates, of rows and of centres.
        dtype: Of both: one of FLOATS.
        k: How many are wanted, at least 1.
        m: Bounds how many scores are held at once; None: nothing does.
        metric: One of METRICS.
        max_memory: Bytes of workspace.
        but_self: Rows are centres, and do not meet themselves.
        masked: Rows may be denied some centres.
    """

    n: int
    n_ctrs: int
    d: int
    dtype: torch.dtype
    k: int
    m: int | None
    metric: str
    max_memory: int
    but_self: bool
    masked: bool = False


class Question(NamedTuple):
    """A search, on the CPU.

    Attributes:
        sizes: See `Sizes`.
        x: (n, d) in C order.
        ctrs: (n_ctrs, d) likewise.
        allowed: (n, n_ctrs) likewise, which centres rows may have; (0, 0): all.
        rounded: Answer row by row, with distances.
    """

    sizes: Sizes
    x: Reals
    ctrs: Reals
    allowed: B8
    rounded: bool


class Brief(NamedTuple):
    """An answer.

    Attributes:
        indices: (k, n), or (n, k) where answers are wanted row by row.
        distances: (n, k) float32, correctly rounded; None: not asked for, of float64, or not all are certain.
    """

    indices: Tensor
    distances: Tensor | None


class Way(Protocol):
    """One way to answer: a module of this folder."""

    def serves(self, sizes: Sizes) -> bool:
        """Tell whether it takes searches of such sizes."""
        ...

    def is_ready(self, sizes: Sizes) -> bool:
        """Tell whether its kernels are loaded; they may begin to load."""
        ...

    def answered(self, asked: Question) -> Brief | None:
        """Answer; None: a row is left in doubt, or this way does not serve after all."""
        ...
