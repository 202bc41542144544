"""Learn a codebook by k-means, with an assignment step that is exact and holds no distance matrix."""

import torch

from janelia_core.ml.extra_torch_functions import knn_mc

torch.manual_seed(0)
x = torch.randn(20_000, 8, dtype=torch.float64)
ctrs = x[torch.randperm(len(x))[:64]]

for step in range(8):
    nearest = knn_mc(x, ctrs, k=1, m=16)[0]
    distortion = (x - ctrs[nearest]).square().sum(1).mean()
    print(f"step {step}: mean squared distance {distortion:.4f}")
    members = torch.bincount(nearest, minlength=len(ctrs)).clamp(min=1)
    ctrs = torch.zeros_like(ctrs).index_add_(0, nearest, x) / members[:, None]
