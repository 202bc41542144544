"""
Wrong neighbours, far from the origin
=====================================

Libraries that compute squared distances as ``|x|^2 + |c|^2 - 2 <x, c>`` subtract large numbers to find a small one. The farther
the points are from the origin, the more of the answer is noise. Here the same cloud is shifted farther and farther away, and rows
whose ten neighbours are not the true ones are counted.
"""

import torch
from matplotlib import pyplot

from janelia_core.ml import knn

torch.manual_seed(0)
shifts = torch.logspace(0, 6, 25)
wrong = {"matrix product: |x|^2 + |c|^2 - 2 <x, c>": [], "differences: torch.cdist without the product": [], "knn": []}
for shift in shifts:
    x, ctrs = (shift + torch.randn(n, 8) for n in (500, 4000))
    truth = torch.cdist(x.double(), ctrs.double(), compute_mode="donot_use_mm_for_euclid_dist").topk(10, largest=False).indices
    answers = [
        torch.cdist(x, ctrs, compute_mode=mode).topk(10, largest=False).indices
        for mode in ("use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")
    ]
    for name, answer in zip(wrong, [*answers, knn(x, ctrs, k=10).indices], strict=True):
        wrong[name].append((answer != truth).any(dim=1).double().mean().item())

# %%
# Float32 has seven digits: a few thousand away, the product has none left for the answer. Differences of stored values lose
# little until the stored values themselves lie on a coarse grid: then distances tie, and a library without a rule for ties gives any of the
# equal ones. ``knn`` has such a rule, the lowest index; here and there even the float64 truth of this picture has none, so what is left at the right
# end is its fault.

figure, axes = pyplot.subplots(figsize=(10, 4.6))
for name, share in wrong.items():
    axes.semilogx(shifts, share, label=name, linewidth=3 if name == "knn" else 1.8)
axes.set(xlabel="distance from the origin", ylabel="share of rows with a wrong neighbour", ylim=(-0.03, 1.03))
axes.legend()
axes.grid(alpha=0.6)
pyplot.show()
