"""
Voronoi cells
=============

The plane, every pixel in the colour of its nearest centre: the cells of a Voronoi diagram. The second neighbour tells
how far the border is, for on a border both are equally far.
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

border = (distances[:, 1] - distances[:, 0]).reshape(500, 500)
cells = (indices[:, 0] * 7 % 60).reshape(500, 500)
figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 5))
left.imshow(
    cells.T, cmap="viridis", origin="lower", extent=(0, 1, 0, 1), alpha=(0.35 + border.T / border.max()).clamp(max=1)
)
right.imshow(distances[:, 0].reshape(500, 500).T, cmap="magma", origin="lower", extent=(0, 1, 0, 1))
right.contour(side, side, border.T, levels=[0.004], colors="white", linewidths=1)
for axes, title in ((left, "cells, paler near a border"), (right, "distance, and the borders")):
    axes.plot(*ctrs.T, "o", color="white", markeredgecolor="black", markersize=4)
    axes.set(title=title, xticks=[], yticks=[])
pyplot.show()
