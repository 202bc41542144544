"""The brief ways' one door: tensors are looked at once, and arrays are made of them once.

Training loops ask a small question at every step, which a kernel answers in microseconds; a plan, a crew, a place for
answers and a report would take ten times as long. So whoever holds plain tensors (`transforms.is_plain`) asks here
first. Not answered is what no way serves, a search of which a way leaves a row in doubt, and one that someone watches:
then the general search takes it.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from janelia_core.ml._knn.brief import book, few, lanes
from janelia_core.ml._knn.brief.question import FLOATS, Brief, Question, Sizes, Way
from janelia_core.ml._knn.data.points import as_array
from janelia_core.ml._knn.report import is_watched
from janelia_core.ml._knn.small.terms import NO_MASK
from janelia_core.ml._runtime.kernels import may_serve, optional_kernels
from janelia_core.ml._runtime.loading import begin
from janelia_core.ml._runtime.machine import flushes_subnormals

_WAYS: tuple[Way, ...] = (book, lanes, few)  # in the order of preference


@optional_kernels
def nearest_briefly(
    x: Tensor,
    ctrs: Tensor,
    k: int,
    m: int | None,
    metric: str,
    max_memory: int,
    *,
    but_self: bool = False,
    rounded: bool = False,
    mask: Tensor | None = None,
) -> Brief | None:
    """Return the k nearest centres of each row of x (n, d) among ctrs (n_ctrs, d), if a brief way serves.

    Args:
        x: Plain tensor.
        ctrs: Likewise.
        k: At least 1.
        m: Bounds how many scores are held at once; None: nothing does.
        metric: One of METRICS.
        max_memory: Bytes of workspace.
        but_self: x is ctrs, and rows do not meet themselves.
        rounded: Answer row by row, with distances.
        mask: Plain (n, n_ctrs) bool, which centres a row may have; -1 and inf stand where these are fewer than k.
    """
    dtype = x.dtype
    if not (x.is_cpu and ctrs.is_cpu and dtype in FLOATS and ctrs.dtype == dtype):
        return None
    sizes = Sizes(x.shape[0], ctrs.shape[0], x.shape[1], dtype, k, m, metric, max_memory, but_self, mask is not None)
    ways = _ways_of(sizes)
    if not ways or _copied(x, ctrs) > max_memory // 4 or not may_serve() or flushes_subnormals() or is_watched():
        return None
    way = next((way for way in ways if way.is_ready(sizes)), None)
    if way is None:
        return None
    allowed = NO_MASK if mask is None else as_array(mask)
    found = _answered(way, Question(sizes, as_array(x), as_array(ctrs), allowed, rounded))
    if found is not None:
        begin()  # with kernels of a better way, which were not loaded beside this one
    return found


def _answered(way: Way, asked: Question) -> Brief | None:
    if torch.is_inference_mode_enabled():  # what it makes, nobody else could write to
        with torch.inference_mode(False):
            return way.answered(asked)
    return way.answered(asked)


def _copied(*tensors: Tensor) -> int:
    """Return the bytes of copies that arrays in C order take."""
    return sum(t.nbytes for t in tensors if not t.is_contiguous() or t.is_neg())


@functools.lru_cache(maxsize=256)
def _ways_of(sizes: Sizes) -> tuple[Way, ...]:
    """Return the ways that serve, the best first."""
    if min(sizes.n, sizes.n_ctrs, sizes.d) == 0 or sizes.k + sizes.but_self > sizes.n_ctrs:
        return ()
    return tuple(way for way in _WAYS if way.serves(sizes))
