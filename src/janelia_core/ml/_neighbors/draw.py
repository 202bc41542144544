"""The draw of centres for one call: dropout of centres."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.face import checked_count, checked_generator
from janelia_core.ml._runtime.transforms import break_graph


def drawn(x: Tensor, ctrs: Tensor, sample: int | None, generator: torch.Generator | None) -> Tensor | None:
    """Return the numbers of the centres drawn, checked before any random number is consumed; None means all."""
    checked_generator(generator, x.device)
    if sample is None:
        if generator is not None:
            raise ValueError("generator draws nothing without sample=; give sample, or leave generator out")
        return None
    n_ctrs = ctrs.shape[-2]
    sample = checked_count("sample", sample, n_ctrs, "n_ctrs")
    return draw(n_ctrs, sample, x.device, generator)


def draw(n_ctrs: int, n_drawn: int, device: torch.device, generator: torch.Generator | None) -> Tensor | None:
    """Return the ascending int64 numbers of centres drawn at random; for all of them None, and no draw."""
    if n_drawn == n_ctrs:
        return None
    if generator is not None and torch.compiler.is_dynamo_compiling():
        break_graph("torch.compile takes no generator; compile without fullgraph, or without generator")
    return torch.randperm(n_ctrs, device=device, generator=generator)[:n_drawn].sort().values
