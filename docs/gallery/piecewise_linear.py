"""
A network of affine pieces
==========================

``PiecewiseLinear`` sums the affine maps of the k nearest centres; centres, maps and offsets are learned. With dropout of
centres every step draws others, so each map serves a wider region, and neighbours can't lean on each other.
"""

import torch
from matplotlib import pyplot

from janelia_core.ml import PiecewiseLinear


def target(x):
    """Return rings that grow thinner outwards."""
    return torch.cos(3 * x.square().sum(1, keepdim=True))


torch.manual_seed(0)
x = 4 * torch.rand(1500, 2) - 2
y = target(x) + 0.3 * torch.randn(1500, 1)


def learn(n_ctrs_used):
    """Train on the noisy points for 300 steps."""
    torch.manual_seed(1)
    model = PiecewiseLinear(torch.nn.Parameter(4 * torch.rand(600, 2) - 2), n_outputs=1, k=3, n_ctrs_used=n_ctrs_used)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return model.eval()


# %%
# 600 pieces have more parameters than there are points. Without dropout they learn the noise.

side = torch.linspace(-2, 2, 300)
grid = torch.cartesian_prod(side, side)
pictures = {"the truth": target(grid)}
for title, n_ctrs_used in (("without dropout", None), ("200 of 600 centres a step", 200)):
    pictures[title] = learn(n_ctrs_used)(grid).detach()
    error = (pictures[title] - pictures["the truth"]).square().mean().sqrt()
    print(f"{title}: error {error:.3f}")

figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.8))
for axis, (title, values) in zip(axes, pictures.items(), strict=True):
    axis.imshow(values.reshape(300, 300), cmap="magma", vmin=-1.3, vmax=1.3)
    axis.set(title=title, xticks=[], yticks=[])
pyplot.show()
