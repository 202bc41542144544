"""
k-means
=======

Lloyd's algorithm is two lines around one search: give every point to its nearest centre, move every centre to the
mean of its points. The assignment is exact, so the sum of squares can't rise, and a run is the same on every machine.
"""

import torch
from matplotlib import pyplot

from janelia_core.ml import knn

torch.manual_seed(3)
middles = 6 * torch.rand(9, 2)
x = torch.cat([middle + 0.45 * torch.randn(1200, 2) for middle in middles])
ctrs = x[:9].clone()  # nine points of one cluster: a bad beginning, on purpose

paths, costs = [ctrs], []
for _ in range(40):
    distances, indices = knn(x, ctrs, k=1, metric="sqeuclidean")
    costs.append(distances.sum().item())
    members = torch.bincount(indices[:, 0], minlength=9)
    ctrs = torch.zeros_like(ctrs).index_add_(0, indices[:, 0], x) / members.clamp(min=1)[:, None]
    paths.append(ctrs)

# %%
# The centres wander out of the cluster in which all of them began. Where two clusters share one centre in the end,
# Lloyd's algorithm has stuck: a better beginning is what `the how-to <../../how_to/k_means.html>`__ has.

walk = torch.stack(paths)
figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.6), width_ratios=(3, 2))
left.scatter(*x.T, s=2, c=indices[:, 0] % 9, cmap="Set2", linewidths=0)
left.plot(walk[:, :, 0], walk[:, :, 1], color="white", linewidth=1)
left.plot(*ctrs.T, "o", color="white", markeredgecolor="black", markersize=7)
left.set(title="ways of nine centres", xticks=[], yticks=[], aspect="equal")
right.plot(costs)
right.set(title="sum of squared distances", xlabel="step", yscale="log")
right.grid(alpha=0.6)
pyplot.show()
