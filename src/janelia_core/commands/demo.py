"""`janelia-knn demo`: the big cities nearest to every populated place on Earth."""

from __future__ import annotations

from typing import Any

import click

from janelia_core.commands import options
from janelia_core.commands.subcommand import Subcommand
from janelia_core.commands.values import FILE, WHOLE


@click.command(
    cls=Subcommand,
    context_settings={"show_default": True},
    short_help="Find the big cities nearest to every populated place on Earth.",
    help="Find the big cities nearest to every populated place on Earth, print some of them, and draw a world map "
    "coloured by the nearest. Needs: pip install 'janelia-core[demo]'",
)
@click.option("-k", "--k", type=WHOLE, default=3, metavar="K", help="Neighbours of each place.")
@click.option("--centres", type=WHOLE, default=4000, metavar="N", help="The N most populous places are the centres.")
@click.option("-m", "--m", type=WHOLE, default=1000, metavar="M", help="Centres scored at once.")
@click.option("-o", "--out", type=FILE, default="demo.png", metavar="FILE", help="Where the map goes.")
@click.option("--no-plot", is_flag=True, help="Draw no map, so that matplotlib is not needed.")
@options.debug
def demo(**given: Any) -> None:
    """Search, check, print and draw."""
    k, n_ctrs = given["k"], given["centres"]
    if k > n_ctrs:
        raise click.BadParameter(f"{k} neighbours do not exist among {n_ctrs} centres", param_hint="'-k'")
    from janelia_core.demo.run import run_demo

    run_demo(k, n_ctrs, given["m"], None if given["no_plot"] else given["out"])
