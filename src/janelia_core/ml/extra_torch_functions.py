"""Functions that PyTorch lacks: exact k-nearest-centre search in bounded memory, and log cosh."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.overrides import handle_torch_function

from janelia_core.ml._knn.face import checked_count, checked_generator, checked_memory, checked_points
from janelia_core.ml._log_cosh.function import log_cosh
from janelia_core.ml._neighbors.draw import draw
from janelia_core.ml._neighbors.indices import nearest
from janelia_core.ml._runtime.transforms import is_overridden

__all__ = ["LOG_2", "knn_do", "knn_mc", "log_cosh"]

LOG_2 = torch.tensor(math.log(2.0), dtype=torch.float32, device="cpu")
"""log 2 as a 0-dim float32 tensor."""


def knn_mc(x: Tensor, ctrs: Tensor, k: int, m: int, *, max_memory: int | None = None) -> Tensor:
    """Find the k nearest centres of each row of x, looking at no more than m centres at a time.

    Args:
        x: (n_smps, d) samples; any real dtype, strides and device.
        ctrs: (n_ctrs, d) centres on the same device; the dtype may differ from that of x.
        k: How many centres to find for each sample, 1 <= k <= n_ctrs.
        m: Bounds how many scores are held at once: at most as many as m centres, or 64 if that is more, have with all
            samples, or one sample has with all centres. It never changes the result; more is faster on a GPU.
        max_memory: Bytes of workspace beyond inputs and result, at least 2^20 (1 MiB); it never changes the result.
            None: 256 MiB; on a GPU, if that is more, half of what is free there, up to 64 GiB.

    Returns:
        (k, n_smps) int64 indices into ctrs on x's device, nearest first: `indices[:, i]` belongs to `x[i, :]`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape, device or number does not fit, for example k > n_ctrs.

    Exactness:
        The stored values are taken as real numbers and the centres of each row are ordered by their true squared
        distance, ties by lowest index. There is one right answer, and it does not depend on m, dtype conversions,
        blocks, threads or device. Distances order as finite < inf < NaN: a row of x that holds a NaN gets centres
        0 .. k-1, and a centre that holds one comes last.

    Memory:
        At most max_memory bytes beyond inputs and result, whatever n_smps, n_ctrs, d and m; more only where
        a single row or centre with its k candidates does not fit into that. Little memory costs time.

    Ways of PyTorch:
        The search is one operator for torch.compile, torch.export, tracers, torch.func and vmap; see docs/neighbors.md.

    Source:
        The definition, the bounds and their derivations are in docs/exactness.md.

    Example:
        >>> ctrs = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> knn_mc(torch.tensor([[0.9, 0.1], [0.0, 1.0]]), ctrs, k=2, m=2)
        tensor([[1, 0],
                [0, 2]])
    """
    if is_overridden(x, ctrs):
        return handle_torch_function(knn_mc, (x, ctrs), x, ctrs, k, m, max_memory=max_memory)
    checked_points(x, ctrs)
    k = checked_count("k", k, ctrs.shape[0], "n_ctrs")
    return nearest(x, ctrs, k, checked_count("m", m), checked_memory(max_memory, x.device))


def knn_do(
    x: Tensor,
    ctrs: Tensor,
    k: int,
    m: int,
    n_ctrs_used: int,
    *,
    generator: torch.Generator | None = None,
    max_memory: int | None = None,
) -> Tensor:
    """Find the k nearest centres of each row of x among n_ctrs_used centres drawn at random: dropout of centres.

    Args:
        x: (n_smps, d) samples; any real dtype, strides and device.
        ctrs: (n_ctrs, d) centres on the same device; the dtype may differ from that of x.
        k: How many centres to find for each sample, 1 <= k <= n_ctrs_used.
        m: Bounds how many scores are held at once: at most as many as m centres, or 64 if that is more, have with all
            samples, or one sample has with all centres. It never changes the result; more is faster on a GPU.
        n_ctrs_used: How many centres to draw, without replacement, for this call: 1 <= n_ctrs_used <= n_ctrs.
            All of them means no dropout, and then no random number is consumed.
        generator: Source of the draw; the global one of x's device by default, so that `torch.manual_seed` fixes
            the draw. The centres used are `torch.randperm(n_ctrs, device=x.device)[:n_ctrs_used]`. torch.compile
            takes none within a whole graph (`fullgraph=True`).
        max_memory: As `knn_mc`.

    Returns:
        (k, n_smps) int64 indices into ctrs (the original ones) on x's device, nearest first.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape, device or number does not fit, for example k > n_ctrs_used.

    Exactness:
        As `knn_mc`, over the drawn centres.

    Memory:
        As `knn_mc`, and 24 bytes a centre for the draw. The drawn centres are gathered block by block.

    Example:
        >>> ctrs = torch.arange(10.0)[:, None]
        >>> _ = torch.manual_seed(0)
        >>> knn_do(torch.tensor([[4.2]]), ctrs, k=3, m=10, n_ctrs_used=10)[:, 0]
        tensor([4, 5, 3])
    """
    if is_overridden(x, ctrs):
        return handle_torch_function(
            knn_do, (x, ctrs), x, ctrs, k, m, n_ctrs_used, generator=generator, max_memory=max_memory
        )
    checked_points(x, ctrs)
    n_ctrs = ctrs.shape[0]
    n_ctrs_used = checked_count("n_ctrs_used", n_ctrs_used, n_ctrs, "n_ctrs")
    k = checked_count("k", k, n_ctrs_used, "n_ctrs_used")
    m, max_memory = checked_count("m", m), checked_memory(max_memory, x.device)
    checked_generator(generator, x.device)
    return nearest(x, ctrs, k, m, max_memory, draw(n_ctrs, n_ctrs_used, x.device, generator))
