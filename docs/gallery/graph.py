"""
Two graphs of points
====================

Every point joined to its six nearest, or to all within a radius: the graphs that graph networks, UMAP and spectral
clustering begin with.
"""

import torch
from matplotlib import pyplot
from matplotlib.collections import LineCollection

from janelia_core.ml.neighbors import knn_graph, radius_graph

torch.manual_seed(2)
t = torch.rand(500) * torch.pi
noise = 0.06 * torch.randn(2, 500, 2)
moons = torch.cat(
    [torch.stack([t.cos(), t.sin()], 1) + noise[0], torch.stack([1 - t.cos(), 0.45 - t.sin()], 1) + noise[1]]
)

graphs = {
    "6 nearest": knn_graph(moons, k=6),
    "radius 0.08": radius_graph(moons, r=0.08),
}  # (2, p) each, from neighbour to row

# %%
# Nearest neighbours give every point as many edges; a radius follows how dense the points lie, and leaves some alone.

figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
for axis, (name, edges) in zip(axes, graphs.items(), strict=True):
    n_edges = torch.bincount(edges[1], minlength=len(moons))
    axis.add_collection(LineCollection(moons[edges.T].numpy(), colors="C0", linewidths=0.6, alpha=0.7))
    shades = axis.scatter(*moons.T, s=9, c=n_edges, cmap="viridis", vmin=0, vmax=20, zorder=2)
    axis.set(title=f"{name}: {edges.shape[1]} edges", xticks=[], yticks=[], aspect="equal")
figure.colorbar(shades, ax=axes, label="edges of a point", shrink=0.7)
pyplot.show()
