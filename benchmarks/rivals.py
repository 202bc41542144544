"""What is compared: each a function (x, ctrs, k) -> indices (n, k) or None where it has no answer."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor

os.environ.setdefault("JANELIA_CORE_KERNELS", "wait")  # kernels are what is timed

Rival = Callable[[Tensor, Tensor, int], Tensor | None]


def janelia(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
    from janelia_core.ml.extra_torch_functions import knn_mc

    return knn_mc(x, ctrs, k, len(ctrs)).T


def janelia_float32(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
    """Ours as on a machine without instructions for int8."""
    from dataclasses import replace

    from janelia_core.ml._knn.choose import make_plan
    from janelia_core.ml._knn.data.centres import Centres
    from janelia_core.ml._knn.data.points import Points
    from janelia_core.ml._knn.search import search
    from janelia_core.ml._runtime.machine import this_machine

    machine = replace(this_machine(x.device), formats=("float32",))
    plan = make_plan(len(x), len(ctrs), x.shape[1], k, len(ctrs), machine=machine, budget=256 << 20)
    return search(Points(x), Centres(Points(ctrs)), plan).T


def cdist_topk(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
    return torch.cdist(x, ctrs).topk(k, largest=False).indices


def broadcasting(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
    """The plain memory-hungry algorithm, 16 rows at a time so that it fits."""
    rows = [(part[:, None] - ctrs[None]).square().sum(-1).topk(k, largest=False).indices for part in x.split(16)]
    return torch.cat(rows)


def faiss(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
    import faiss as library

    library.omp_set_num_threads(torch.get_num_threads())
    return torch.from_numpy(library.knn(x.float().numpy(), ctrs.float().numpy(), k)[1])


def sklearn(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(ctrs.numpy())
    return torch.from_numpy(model.kneighbors(x.numpy(), return_distance=False))


def pykdtree(x: Tensor, ctrs: Tensor, k: int) -> Tensor | None:
    from pykdtree.kdtree import KDTree

    return torch.from_numpy(KDTree(ctrs.numpy()).query(x.numpy(), k=k)[1].astype("int64").reshape(len(x), k))


def scipy(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
    from scipy.spatial import cKDTree

    tree = cKDTree(ctrs.numpy())
    return torch.from_numpy(tree.query(x.numpy(), k=k, workers=torch.get_num_threads())[1].reshape(len(x), k))


def float32_mm(x: Tensor, ctrs: Tensor, k: int) -> None:
    """Not a search: the matrix product that others start with."""
    torch.mm(x.float(), ctrs.float().T)


def bfloat16_mm(x: Tensor, ctrs: Tensor, k: int) -> None:
    torch.mm(x.bfloat16(), ctrs.bfloat16().T)


RIVALS: dict[str, Rival] = {
    f.__name__: f
    for f in (
        janelia,
        janelia_float32,
        faiss,
        sklearn,
        cdist_topk,
        broadcasting,
        float32_mm,
        bfloat16_mm,
        pykdtree,
        scipy,
    )
}
