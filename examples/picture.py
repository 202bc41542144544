"""Learn a photo from a few of its pixels, position -> colour, with and without dropout of centres.

The model is a sum of affine maps, those of the k nearest centres. Where it has seen few pixels it can memorise them:
neighbouring maps lean on each other with large opposite values, and maps that no pixel reached stay as they began.
With dropout each step draws other centres, so every map has to do with ever new partners, over a wider region.

Writes picture.png. A number behind its name makes it train for so many steps instead of 200.
"""

import math
import sys

import matplotlib
import torch
from sklearn.datasets import load_sample_image

from janelia_core.ml import PiecewiseLinear

matplotlib.use("Agg")
from matplotlib import pyplot

N_CTRS, N_PIXELS, K = 2500, 4000, 3
STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 200


def train(x, colours, ctrs, n_ctrs_used):
    torch.manual_seed(1)
    model = PiecewiseLinear(torch.nn.Parameter(ctrs.clone()), n_outputs=3, k=K, n_ctrs_used=n_ctrs_used)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (model(x) - colours).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def decibel(error):
    return -10 * math.log10(error.square().mean())


torch.manual_seed(0)
photo = torch.tensor(load_sample_image("flower.jpg"))[::2, ::2] / 255
height, width, _ = photo.shape
pixels = torch.cartesian_prod(torch.arange(height), torch.arange(width)) / math.sqrt(height * width / N_CTRS)
colours = photo.reshape(-1, 3)
seen = torch.randperm(len(pixels))[:N_PIXELS]
ctrs = pixels[torch.randperm(len(pixels))[:N_CTRS]]

figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
shown = torch.ones_like(colours)
shown[seen] = colours[seen]
pictures = {"the photo": colours, f"the {N_PIXELS} pixels that are learned ({N_PIXELS / len(pixels):.0%})": shown}
for name, n_ctrs_used in (("without dropout", None), (f"with dropout: {N_CTRS // 3} of {N_CTRS} centres", N_CTRS // 3)):
    model = train(pixels[seen], colours[seen], ctrs, n_ctrs_used)
    with torch.no_grad():
        out = model(pixels)
    on_seen, on_all = decibel(out[seen] - colours[seen]), decibel(out - colours)
    print(f"{name}: {on_seen:.1f} dB on the pixels learned, {on_all:.1f} dB on all")
    pictures[f"{name}\n{on_seen:.1f} dB on the pixels learned, {on_all:.1f} dB on all"] = out.clamp(0, 1)
for axis, (title, picture) in zip(axes.flat, pictures.items(), strict=True):
    axis.imshow(picture.reshape(height, width, 3).numpy())
    axis.set_title(title)
    axis.set_axis_off()
figure.savefig("picture.png", dpi=80)
