"""`janelia-knn search`: neighbours from file to file."""

from __future__ import annotations

from typing import Any

import click

from janelia_core.commands import options
from janelia_core.commands.subcommand import Subcommand, tell


@click.command(
    cls=Subcommand,
    short_help="Find the k nearest centres of every query, from file to file.",
    help="Find the k nearest centres of every query, from file to file: exactly, in bounded memory, however large the "
    "files. CENTRES and QUERIES are files of vectors; FILE::NAME is one of several arrays in a file. Without QUERIES "
    "they are the centres, none its own neighbour. Formats by suffix: {formats}.",
)
@options.files("CENTRES [QUERIES]")
@options.search()
@click.option("--resume", is_flag=True, help="Go on with the unfinished search beside OUT.")
@options.progress
@options.report
def search(**given: Any) -> None:
    """Search, and say what was done."""
    from dataclasses import asdict

    from janelia_core.commands.progress import Shown
    from janelia_core.files import search_files

    with options.with_threads(given["threads"]), Shown(given["shown"]):
        report = search_files(**options.asked_search(given), resume=given["resume"])
    layout = report.layout
    steps = f" ({report.resumed_at} of {layout.n_steps} steps were done before)" if report.resumed_at else ""
    lines = [
        str(layout),
        f"read: {report.bytes_read} bytes{steps}, {report.bytes_taken} more to tell near-ties apart",
        f"{report.out}: {report.shape[0]} x {report.shape[1]}, {report.seconds:.2f} s, {', '.join(report.screens)}",
    ]
    facts = asdict(report) | {"out": str(report.out), "bytes_planned": layout.bytes_read}
    tell(lines, facts, report.notes, given)
