"""
A graph of points
=================

Every point joined to its six nearest: the graph that graph networks, UMAP and spectral clustering begin with.
"""

import torch
from matplotlib import pyplot
from matplotlib.collections import LineCollection

from janelia_core.ml.neighbors import knn_graph

torch.manual_seed(2)
t = torch.rand(700) * torch.pi
noise = 0.06 * torch.randn(2, 700, 2)
moons = torch.cat([torch.stack([t.cos(), t.sin()], 1) + noise[0], torch.stack([1 - t.cos(), 0.45 - t.sin()], 1) + noise[1]])

edges = knn_graph(moons, k=6)  # (2, n * 6), from neighbour to row
figure, axes = pyplot.subplots(figsize=(10, 5))
axes.add_collection(LineCollection(moons[edges.T].numpy(), colors="C0", linewidths=0.5, alpha=0.7))
axes.scatter(*moons.T, s=8, c=(torch.arange(1400) // 700), cmap="Set2", zorder=2)
axes.set(title=f"{len(moons)} points, {edges.shape[1]} edges", xticks=[], yticks=[], aspect="equal")
pyplot.show()
