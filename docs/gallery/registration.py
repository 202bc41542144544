"""
Two point clouds, brought together
==================================

Iterative closest point: pair every point with its nearest in the other cloud, take the rotation and the shift that
bring the pairs together best, and begin again. The rotation comes from a singular value decomposition of a 3 x 3
matrix. `How to register point clouds <../../how_to/registration.html>`__ explains each step.
"""

import torch
from matplotlib import pyplot

from janelia_core.ml import CenterIndex

torch.manual_seed(0)
t = 2 * torch.pi * torch.rand(4000, dtype=torch.float64)
fixed = torch.stack([t.sin() + 2 * (2 * t).sin(), t.cos() - 2 * (2 * t).cos(), -(3 * t).sin()], dim=1)  # a trefoil knot
fixed += 0.1 * torch.randn_like(fixed)

turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.5, 0.2], [0.5, 0, -0.3], [-0.2, 0.3, 0]], dtype=torch.float64))
moving = fixed[::3] @ turn.T + torch.tensor([0.5, -0.4, 0.6], dtype=torch.float64)

index = CenterIndex(fixed)
placed, errors = moving, []
for _ in range(25):
    found = index.knn(placed, k=1)
    errors.append(found.distances.square().mean().sqrt().item())
    partner = fixed[found.indices[:, 0]]
    here, there = placed.mean(0), partner.mean(0)
    u, _, vh = torch.linalg.svd((placed - here).T @ (partner - there))
    u[:, -1] *= torch.linalg.det(u @ vh)  # a rotation, no mirror
    placed = (placed - here) @ (u @ vh) + there

# %%
# Distances to the nearest point fall until every point lies on its own:

print(f"root mean square of the distances: {errors[0]:.3f} at first, {errors[-1]:.1e} after {len(errors)} steps")
figure = pyplot.figure(figsize=(10, 4.2))
for place, (title, cloud) in enumerate({"before": moving, "after": placed}.items(), start=1):
    axes = figure.add_subplot(1, 3, place, projection="3d")
    axes.scatter(*fixed.T, s=1, color="C0", alpha=0.5)
    axes.scatter(*cloud.T, s=2, color="C1")
    axes.set(title=title)
    axes.set_axis_off()
axes = figure.add_subplot(1, 3, 3)
axes.semilogy(errors)
axes.set(title="distance, root mean square", xlabel="step")
axes.grid(alpha=0.6)
pyplot.show()
