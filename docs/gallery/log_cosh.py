"""
log cosh, to the last bits
==========================

The error of five formulas for log cosh, in float32, in units of the last place. The truth is computed in float64.
Near 0 the usual formulas subtract log 2 from log 2 and keep noise; ``log(cosh(x))`` overflows from 89 on.
"""

import math

import torch
from matplotlib import pyplot

from janelia_core.ml import log_cosh

torch.manual_seed(0)
x = torch.logspace(-4, 2.3, 200_000)
truth = log_cosh(x.double())  # within 2 units of *its* last place: enough to judge float32
spacing = torch.nextafter(truth.float(), torch.tensor(torch.inf)).double() - truth.float().double()

formulas = {
    "log(cosh(x))": lambda x: x.cosh().log(),
    "|x| - log 2 + log1p(exp(-2|x|))": lambda x: x.abs() - math.log(2) + torch.log1p(torch.exp(-2 * x.abs())),
    "x + softplus(-2x) - log 2 (Keras)": lambda x: x + torch.nn.functional.softplus(-2 * x) - math.log(2),
    "logaddexp(x, -x) - log 2 (Optax)": lambda x: torch.logaddexp(x, -x) - math.log(2),
    "janelia_core.ml.log_cosh": log_cosh,
}

# %%
figure, axes = pyplot.subplots(figsize=(10, 5))
for name, formula in formulas.items():
    error = ((formula(x).double() - truth).abs() / spacing).reshape(-1, 1000).amax(1)
    ours = formula is log_cosh
    axes.loglog(x.reshape(-1, 1000)[:, 500], error, label=name, linewidth=3 if ours else 1.5, zorder=3 if ours else 2)
axes.axhline(0.5, color="white", linestyle=":", linewidth=1)
axes.annotate("as good as rounding", (30, 0.35), fontsize=9)
axes.set(xlabel="x", ylabel="largest error (units in the last place)", ylim=(0.2, 3e7))
axes.legend(fontsize=9)
axes.grid(alpha=0.6)
pyplot.show()
