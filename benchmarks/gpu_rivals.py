"""Others' ways to the neighbours of points on a GPU, and the bare product that no exact search by products can beat.

Each is prepared from (x, ctrs, k) and gives a function that returns indices (n, k); one that cannot serve says why by
an exception.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SCORES = 1 << 30
"""That are held at a time."""
Run = Callable[[], Tensor]


def cdist_topk(x: Tensor, ctrs: Tensor, k: int) -> Run:
    rows = max(1, SCORES // 2 // len(ctrs))
    return lambda: torch.cat([torch.cdist(part, ctrs).topk(k, largest=False).indices for part in x.split(rows)])


def product(x: Tensor, ctrs: Tensor, k: int) -> Run:
    x, ctrs = x.half(), ctrs.half()

    def run() -> Tensor:
        for part in ctrs.split(max(1, SCORES // len(x))):
            torch.mm(x, part.T)
        return x[:0]  # no answer

    return run


def faiss_gpu(x: Tensor, ctrs: Tensor, k: int) -> Run:
    import faiss
    import faiss.contrib.torch_utils  # takes torch's tensors

    if not hasattr(faiss, "StandardGpuResources"):
        raise ImportError("this FAISS is built without GPU")
    resources = faiss.StandardGpuResources()
    return lambda: faiss.knn_gpu(resources, x, ctrs, k)[1]


def cuvs(x: Tensor, ctrs: Tensor, k: int) -> Run:
    from cuvs.neighbors import brute_force

    def run() -> Tensor:
        index = brute_force.build(ctrs, metric="sqeuclidean")
        return torch.as_tensor(brute_force.search(index, x, k)[1], device=x.device)

    return run


RIVALS: dict[str, Callable[[Tensor, Tensor, int], Run]] = {
    "float16 product": product,
    "cdist + topk": cdist_topk,
    "FAISS-GPU": faiss_gpu,
    "cuVS": cuvs,
}
