"""The look of the pictures that are made with the pages: light lines on a night sky, readable on white and on black."""

from __future__ import annotations

from typing import Any

import matplotlib
from cycler import cycler

matplotlib.use("agg")

SKY, LINE, TEXT, SOFT = "#0c1022", "#2b3558", "#f2f3f7", "#aab2cb"
COLOURS = ("#3fb8af", "#f4d35e", "#ef6f6c", "#5aa9e6", "#f7a072", "#9bc995", "#8e7dbe", "#e7a1c4")

STYLE: dict[str, Any] = {
    "figure.facecolor": SKY,
    "savefig.facecolor": SKY,
    "axes.facecolor": SKY,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.titlecolor": TEXT,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": TEXT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": LINE,
    "legend.frameon": False,
    "legend.labelcolor": TEXT,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "font.size": 11,
}


def reset(gallery_conf: dict[str, Any], name: str) -> None:
    """Begin each program of the gallery with this look, whatever the one before it has set."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)
