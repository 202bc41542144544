"""
A network of affine pieces
==========================

``PiecewiseLinear`` sums the affine maps of the k nearest centres; centres, maps and offsets are learned. The more
centres, the finer what it can follow; a step costs about the same, as each sample looks at its own k only.
"""

import torch
from matplotlib import pyplot

from janelia_core.ml import PiecewiseLinear


def target(x):
    """Return rings that grow thinner outwards."""
    return torch.cos(3 * x.square().sum(1, keepdim=True))


def learn(n_ctrs):
    """Train on 3000 points for 150 steps."""
    torch.manual_seed(0)
    x = 4 * torch.rand(3000, 2) - 2
    y = target(x)
    model = PiecewiseLinear(torch.nn.Parameter(4 * torch.rand(n_ctrs, 2) - 2), n_outputs=1, k=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(150):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return model.eval()


# %%
# White dots are centres. They wander while they learn.

side = torch.linspace(-2, 2, 200)
grid = torch.cartesian_prod(side, side)
pictures = {"the truth": (target(grid), torch.empty(0, 2))}
for n_ctrs in (40, 400):
    model = learn(n_ctrs)
    values = model(grid).detach()
    pictures[f"{n_ctrs} centres"] = values, model.ctrs.detach()
    print(f"{n_ctrs} centres: root mean square error {(values - target(grid)).square().mean().sqrt():.3f}")

figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.8))
for axis, (title, (values, ctrs)) in zip(axes, pictures.items(), strict=True):
    axis.imshow(values.reshape(200, 200), cmap="magma", vmin=-1.3, vmax=1.3, extent=(-2, 2, 2, -2))
    axis.plot(*ctrs.T.flip(0), "o", color="white", markeredgecolor="black", markersize=3, markeredgewidth=0.5)
    axis.set(title=title, xticks=[], yticks=[], xlim=(-2, 2), ylim=(2, -2))
pyplot.show()
