"""`janelia-knn demo`: the big cities nearest to every populated place on Earth."""

from __future__ import annotations

import argparse

from janelia_core.commands import arguments


def add(commands: arguments.Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "demo",
        help="find the big cities nearest to every populated place on Earth",
        description="Find the big cities nearest to every populated place on Earth, print some of them, and "
        "draw a world map coloured by the nearest. Needs: pip install 'janelia-core[demo]'",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("-k", "--k", type=arguments.positive, default=3, metavar="K", help="neighbours of each place")
    parser.add_argument(
        "--centres",
        type=arguments.positive,
        default=4000,
        metavar="N",
        help="the N most populous places are the centres",
    )
    parser.add_argument("-m", "--m", type=arguments.positive, default=1000, metavar="M", help="centres scored at once")
    parser.add_argument("-o", "--out", default="demo.png", metavar="FILE", help="where the map goes")
    parser.add_argument("--no-plot", action="store_true", help="draw no map, so that matplotlib is not needed")
    parser.set_defaults(run=run, fail=parser.error)


def run(options: argparse.Namespace) -> None:
    """Search, check, print and draw."""
    if options.k > options.centres:
        options.fail(f"argument --k: {options.k} neighbours do not exist among {options.centres} centres")
    from janelia_core.demo.run import run_demo  # imports torch, which --help should not wait for

    run_demo(options.k, options.centres, options.m, None if options.no_plot else options.out)
