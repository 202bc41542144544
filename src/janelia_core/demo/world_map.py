"""A world map of places, coloured by the centre that each is nearest to.

No coastline is drawn: where people live is all that shapes the map.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from janelia_core.demo.cell_colours import PALETTE, colour_cells
from janelia_core.demo.places import Places
from janelia_core.extras import import_extra

NIGHT, LINE, TEXT, SOFT = "#0c1022", "#1b2440", "#f2f3f7", "#8b93ad"
PIXELS, INCHES = (1600, 860), (16.0, 8.6)
LABELLED = 20
CENTRAL_MERIDIAN = 11.0  # so that the map's edge runs through Bering Strait
LENS_CENTRE, LENS_HALF_WIDTH, LENS_BOX = (48.6, 9.0), 0.17, (0.022, 0.04, 0.24, 0.25)

_EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)


def equal_earth(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project latitudes and longitudes to the Equal Earth map.

    Args:
        degrees: latitude and longitude, float64 (n, 2), degrees.

    Returns:
        x in [-2.71, 2.71] and y in [-1.32, 1.32], float64 (n, 2).

    Source:
        Šavrič, Patterson, Jenny: "The Equal Earth map projection" (2019), equations 6 to 9.
    """
    latitude, longitude = np.radians(degrees).T
    theta = np.arcsin(np.sqrt(3) / 2 * np.sin(latitude))
    a1, a2, a3, a4 = _EQUAL_EARTH
    slope = 9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1
    x = 2 * np.sqrt(3) * longitude * np.cos(theta) / (3 * slope)
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    return np.stack([x, y], axis=1)


def draw_world_map(places: Places, indices: NDArray[np.int64], n_ctrs: int, path: Path) -> None:
    """Write the map as a PNG of 1600 x 860 pixels and 256 colours.

    Args:
        places: the places; the first n_ctrs are the centres.
        indices: each place's nearest centres, int64 (k, n), nearest first.
        n_ctrs: number of centres.
        path: where the picture goes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure_module = import_extra("matplotlib.figure", "demo")
    agg = import_extra("matplotlib.backends.backend_agg", "demo")
    figure = figure_module.Figure(figsize=INCHES, dpi=PIXELS[0] / INCHES[0], facecolor=NIGHT)
    canvas = agg.FigureCanvasAgg(figure)

    position = _on_map(places.degrees)
    colours = colour_cells(indices, n_ctrs)[indices[0]]
    world = figure.add_axes((0.012, 0.02, 0.976, 0.90))
    _draw_graticule(world)
    _draw_places(world, position, colours, size=1.4)
    _label_largest(world, places, position)
    world.set(xlim=(-2.60, 2.72), ylim=(-1.14, 1.30), aspect="equal")
    _draw_lens(figure, world, position, colours, n_ctrs)
    _write_title(figure, len(places), n_ctrs)

    # 256 colours are all that the palette and its edges need, and a third of the bytes.
    image = import_extra("PIL.Image", "demo")
    canvas.draw()
    picture = image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.quantize(256).save(path, format="PNG", optimize=True)


def _on_map(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    east = (degrees[:, 1] - CENTRAL_MERIDIAN + 180.0) % 360.0 - 180.0
    return equal_earth(np.stack([degrees[:, 0], east], axis=1))


def _draw_graticule(axes: Any) -> None:
    axes.axis("off")
    parallel, meridian = np.linspace(-180, 180, 361), np.linspace(-90, 90, 181)
    lines = [np.stack([meridian, np.full(181, east)], axis=1) for east in range(-180, 181, 30)]
    lines += [np.stack([np.full(361, north), parallel], axis=1) for north in range(-90, 91, 30)]
    for line in lines:
        axes.plot(*equal_earth(line).T, color=LINE, linewidth=0.7, zorder=0)


def _draw_places(axes: Any, position: NDArray[np.float64], colours: NDArray[np.int64], size: float) -> None:
    for scale, alpha in ((3.0, 0.10), (1.0, 1.0)):  # a glow, then the places
        for number, colour in enumerate(PALETTE):
            axes.plot(
                *position[colours == number].T,
                "o",
                color=colour,
                alpha=alpha,
                markersize=scale * size,
                markeredgewidth=0,
                zorder=1 + alpha,
            )


def _label_largest(axes: Any, places: Places, position: NDArray[np.float64]) -> None:
    effects = import_extra("matplotlib.patheffects", "demo")
    halo = [effects.withStroke(linewidth=2.4, foreground=NIGHT)]
    labelled: list[int] = []
    for place in range(len(places)):
        # Two labels need this much room between them, in the map's units.
        apart = np.abs(position[labelled] - position[place]) > (0.30, 0.075)
        if apart.any(axis=1).all():
            labelled.append(place)
            x, y = position[place]
            axes.plot(x, y, "o", color=TEXT, markersize=2.6, markeredgecolor=NIGHT, markeredgewidth=0.7, zorder=4)
            axes.annotate(
                places.names[place],
                (x, y),
                (4, 3),
                textcoords="offset points",
                color=TEXT,
                fontsize=8.5,
                path_effects=halo,
                zorder=5,
            )
        if len(labelled) == LABELLED:
            return


def _draw_lens(figure: Any, world: Any, position: NDArray[np.float64], colours: NDArray[np.int64], n_ctrs: int) -> None:
    """Draw Europe larger, with its centres, where the map shows only the Pacific."""
    lens = figure.add_axes(LENS_BOX)
    half = LENS_HALF_WIDTH * np.array([1.0, LENS_BOX[3] * PIXELS[1] / (LENS_BOX[2] * PIXELS[0])])
    (x0, y0), (x1, y1) = _on_map(np.array([LENS_CENTRE]))[0] + np.outer((-1, 1), half)
    lens.set(xlim=(x0, x1), ylim=(y0, y1), xticks=[], yticks=[], facecolor=NIGHT)
    inside: NDArray[np.bool_] = np.all((position > (x0, y0)) & (position < (x1, y1)), axis=1)
    _draw_places(lens, position[inside], colours[inside], size=2.6)
    lens.plot(
        *position[:n_ctrs][inside[:n_ctrs]].T,
        "o",
        color=TEXT,
        markersize=3.2,
        markeredgecolor=NIGHT,
        markeredgewidth=0.8,
        zorder=3,
    )
    lens.spines[:].set(color=SOFT, linewidth=0.9)
    world.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=TEXT, linewidth=0.9, zorder=3)
    figure.text(
        LENS_BOX[0],
        LENS_BOX[1] + LENS_BOX[3] + 0.008,
        "the framed part, its cities white",
        color=SOFT,
        fontsize=9,
    )


def _write_title(figure: Any, n_smps: int, n_ctrs: int) -> None:
    figure.text(0.022, 0.945, "The nearest big city", color=TEXT, fontsize=23, fontweight="bold", va="center")
    figure.text(
        0.268,
        0.943,
        f"{n_smps:,} populated places, coloured by the exact nearest of the {n_ctrs:,} largest cities",
        color=SOFT,
        fontsize=13,
        va="center",
    )
    figure.text(0.978, 0.022, "data: GeoNames, CC BY 4.0  ·  janelia-knn demo", color=SOFT, fontsize=9, ha="right")
