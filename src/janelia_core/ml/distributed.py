"""Nearest centres, each process of a torch.distributed group having some of the centres: exact, and differentiable."""

from __future__ import annotations

from janelia_core.ml._distributed.call import knn
from janelia_core.ml._distributed.group import DistributedError
from janelia_core.ml._distributed.within import radius

__all__ = ["DistributedError", "knn", "radius"]
