"""
Wrong neighbours, far from the origin
=====================================

Libraries that compute squared distances as ``|x|^2 + |c|^2 - 2 <x, c>`` subtract large numbers to find a small one.
The farther the points are from the origin, the more of the answer is noise. Here the same cloud is shifted farther
and farther away, and rows whose ten neighbours are not the true ones are counted.
"""

import torch
from matplotlib import pyplot

from janelia_core.ml import knn

torch.manual_seed(0)
shifts = torch.logspace(0, 6, 25)
wrong = {"matrix product: |x|^2 + |c|^2 - 2 <x, c>": [], "differences: torch.cdist without the product": [], "knn": []}
for shift in shifts:
    x, ctrs = (shift + torch.randn(n, 8) for n in (200, 4000))
    squares = (x.double()[:, None] - ctrs.double()).square().sum(2)
    truth = squares.sort(dim=1, stable=True).indices[:, :10]  # stable: equal ones by lowest index
    answers = [
        torch.cdist(x, ctrs, compute_mode=mode).topk(10, largest=False).indices
        for mode in ("use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")
    ]
    for name, answer in zip(wrong, [*answers, knn(x, ctrs, k=10).indices], strict=True):
        wrong[name].append((answer != truth).any(dim=1).double().mean().item())

# %%
# Float32 has seven digits. A few hundred away the product has none left for the answer. Differences of stored values
# lose little. A million away the stored values lie on a coarse grid and distances tie: without a rule for ties any of
# the equal ones may come. ``knn`` has a rule, and the line at 0.

figure, axes = pyplot.subplots(figsize=(10, 4.6))
for name, share in wrong.items():
    axes.semilogx(shifts, share, label=name, linewidth=3 if name == "knn" else 1.8)
axes.set(xlabel="distance from the origin", ylabel="share of rows with a wrong neighbour", ylim=(-0.03, 1.03))
axes.legend()
axes.grid(alpha=0.6)
pyplot.show()
