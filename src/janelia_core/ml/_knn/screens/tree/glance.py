"""A glance before a tree is planted: a few rows walk a tree over few centres, which tells soon that no tree would pay.

A tree over a sample does not see what only all centres show: many small clusters, each with a centre or two in the
sample. So a few rows look at all centres, too: where these hold k much nearer ones than the sample does, nothing is
said.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points, as_float64
from janelia_core.ml._knn.screens.tree.cost import Look, glanced_centres
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._knn.screens.tree.screen import TreeScreen
from janelia_core.ml._runtime.arrays import F64, Reals
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.row_sums import squared_distance

_WALK, _ORDERED = 32, 1024  # rows that walk, and among which their neighbours are
_ROWS, _NEARER = 4, 0.5  # rows that look at all centres, of which k are so many times as far
_SHARE = 4  # of a chunk, for coordinates taken at a time


def glance(x: Points, ctrs: Points, look: Look) -> str:
    """Return in words why no tree over all centres will pay, or nothing where that is not told soon."""
    stride, alone = max(1, len(ctrs) // glanced_centres(look.k)), Workers(1, pool=False)
    sample = replace(ctrs, subset=ctrs.row_numbers(torch.arange(0, len(ctrs), stride, device="cpu")))
    k = min(look.k, len(sample))
    tree = BoxTree(sample, k, alone)
    rows = x.block(0, len(x), -(-len(x) // _ORDERED))
    walk = TreeScreen(tree, k).walk(rows, tree.order(rows, alone), _WALK, alone)
    share, some = look.share(walk, stride), as_float64(x.block(0, len(x), -(-len(x) // _ROWS))).contiguous().numpy()
    limits = np.partition(_squares_to(some, sample.block(0, len(sample))), k - 1)[:, k - 1] * _NEARER**2
    if share <= 1.0 or _hold_nearer(some, ctrs, limits, k):
        return ""
    return replace(look, rows=_WALK).in_words(share, stride)


def _hold_nearer(rows: F64, ctrs: Points, limits: F64, k: int) -> bool:
    """Tell whether any row has k centres within its limit, a squared distance."""
    near = np.zeros(len(rows), np.int64)
    for part in ctrs.chunks(_SHARE):
        near += (_squares_to(rows, ctrs.block(*part)) < limits[:, None]).sum(1)
    return bool((near >= k).any())


def _squares_to(rows: F64, ctrs: Tensor) -> F64:
    out = np.empty((len(rows), len(ctrs)))
    ctrs = ctrs if ctrs.dtype == torch.float32 else as_float64(ctrs)
    _squares(rows, ctrs.contiguous().numpy(), out)
    return out


@jit
def _squares(x: F64, ctrs: Reals, out: F64) -> None:
    """Write squared distances."""
    for j in range(ctrs.shape[0]):
        for i in range(x.shape[0]):
            out[i, j] = squared_distance(x, i, ctrs, j)
