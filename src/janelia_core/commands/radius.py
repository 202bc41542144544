"""`janelia-knn radius`: all neighbours within a radius, from file to file."""

from __future__ import annotations

from typing import Any

import click

from janelia_core.commands import options
from janelia_core.commands.subcommand import Subcommand, tell


@click.command(
    cls=Subcommand,
    short_help="Find all centres within a radius of every query, from file to file.",
    help="Find all centres within a radius of every query, from file to file: exactly, in bounded memory.",
)
@options.files("CENTRES [QUERIES]")
@click.option("--radius", type=float, required=True, metavar="R", help="A centre at distance R still belongs.")
@options.out("rangeres npz")
@options.metric
@options.choice(here=True)
@options.progress
@options.report
def radius(**given: Any) -> None:
    """Search, and say what was done."""
    from janelia_core.commands.progress import Shown
    from janelia_core.files import radius_files

    with options.with_threads(given["threads"]), Shown(given["shown"]):
        report = radius_files(
            **options.asked(given),
            radius=given["radius"],
            out=given["out"],
            convention=given["convention"],
            formats=(None, None, given["out_format"]),
        )
    lines = [
        f"read: {report.bytes_read} bytes",
        f"{report.out}: {report.found} neighbours of {report.n} queries, {report.seconds:.2f} s",
    ]
    tell(lines, report._asdict() | {"out": str(report.out)}, report.notes, given)
