from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._neighbors.pairs import result_dtype


def distances(x: Tensor, ctrs: Tensor, indices: Tensor, metric: str) -> Tensor:
    out = torch.full(indices.shape, torch.inf, dtype=result_dtype(x, ctrs), device=x.device)
    if ctrs.shape[0] == 0:
        return out
    for s in range(0, len(x), 4096):
        j = indices[s : s + 4096]
        a, c = x[s : s + 4096, None].double(), ctrs[j.clamp(min=0)].double()
        if metric in ("euclidean", "sqeuclidean"):
            D = (a - c).square().sum(-1)
            D = D.sqrt() if metric == "euclidean" else D
        else:
            D = -(a * c).sum(-1)
            if metric == "cosine":
                nn = a.norm(dim=-1) * c.norm(dim=-1)
                D = 1 + torch.where(nn > 0, D / nn, 0)
        out[s : s + 4096] = D.masked_fill(j < 0, torch.inf).to(out.dtype)
    return out


def find_other(x, ctrs, k, metric, subset, allowed):  # type: ignore
    n, m = len(x), len(ctrs)
    D = distances(x, ctrs, torch.arange(m).expand(n, m), metric).double()
    ok = torch.ones(n, m, dtype=torch.bool)
    if subset is not None:
        ok[:] = False
        ok[:, subset] = True
    if allowed is not None:
        ok &= allowed(torch.arange(n), 0, m)
    D = D.masked_fill(~ok, torch.inf)
    o = D.sort(dim=1, stable=True)
    return o.indices.masked_fill(torch.isinf(o.values), -1)[:, :k].T
