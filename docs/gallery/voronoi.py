"""
Voronoi cells
=============

The plane, every pixel in the colour of its nearest centre: the cells of a Voronoi diagram. The second neighbour tells
how far the border is, for on a border both are equally far. Another metric, other cells.
"""

import torch
from matplotlib import pyplot

from janelia_core.ml import knn

torch.manual_seed(1)
ctrs = torch.rand(60, 2)
side = torch.linspace(0, 1, 500)
pixels = torch.cartesian_prod(side, side)

distances, indices = knn(pixels, ctrs, k=2)

# %%
# The gap between both distances is 0 on a border, and the distance to the nearest centre 0 at a centre. Two pictures
# of one search:

gap = (distances[:, 1] - distances[:, 0]).reshape(500, 500)
cells = indices[:, 0].reshape(500, 500)
border = (cells[1:, 1:] != cells[:-1, 1:]) | (cells[1:, 1:] != cells[1:, :-1])
distance = distances[:, 0].reshape(500, 500)[1:, 1:].masked_fill(border, distances[:, 0].max())
figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 5))
shade = (0.35 + gap.T / gap.max()).clamp(max=1)
left.imshow(cells.T * 7 % 60, cmap="viridis", origin="lower", extent=(0, 1, 0, 1), alpha=shade)
right.imshow(distance.T, cmap="magma", origin="lower", extent=(0, 1, 0, 1))
for axes, title in ((left, "cells, fainter near a border"), (right, "distance, and the borders")):
    axes.plot(*ctrs.T, "o", color="white", markeredgecolor="black", markersize=4)
    axes.set(title=title, xticks=[], yticks=[])

# %%
# Borders between the cells of a city block run upright, flat, or at 45 degrees, and so do those of the largest
# difference. Where whole regions are equally far from two centres, the lower number has them: that rule makes the
# picture the same everywhere.

figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.7))
for axis, metric in zip(axes, ("euclidean", "manhattan", "chebyshev"), strict=True):
    nearest = knn(pixels, ctrs, k=1, metric=metric).indices.reshape(500, 500)
    axis.imshow(nearest.T * 7 % 60, cmap="viridis", origin="lower", extent=(0, 1, 0, 1))
    axis.plot(*ctrs.T, "o", color="white", markeredgecolor="black", markersize=3)
    axis.set(title=metric, xticks=[], yticks=[])
pyplot.show()
