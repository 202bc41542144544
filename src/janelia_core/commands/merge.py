"""`janelia-knn merge`: the parts of a search, made one."""

from __future__ import annotations

from typing import Any

import click

from janelia_core.commands import options
from janelia_core.commands.subcommand import Subcommand, tell
from janelia_core.commands.values import FILE, ROWS


@click.command(
    cls=Subcommand,
    short_help="Make one answer of the parts of a search.",
    help="Make one answer of the parts of a search: of PARTS, files that `janelia-knn search --part I/N` wrote, or "
    "their folder. The answer is, to the byte, that of the whole search.",
)
@click.argument("parts", nargs=-1, required=True, type=FILE, metavar="PARTS...")
@options.out("")
@click.option("--distances", type=FILE, metavar="FILE", help="The distances, in a file of their own as well.")
@click.option("--rows", type=ROWS, metavar="A:B", default=":", help="Queries from row A up to B: to share it out.")
@click.option("--centres", type=FILE, metavar="FILE", help="All centres; default: where they were when searched.")
@click.option("--queries", type=FILE, metavar="FILE", help="All queries; default: likewise.")
@options.memory(here=True)
@options.threads
@click.option("--resume", is_flag=True, help="Go on with the unfinished merge beside OUT.")
@options.progress
@options.report
def merge(**given: Any) -> None:
    """Merge, and say what was done."""
    from dataclasses import asdict

    from janelia_core.commands.progress import Shown
    from janelia_core.files import merge_files

    names = ("out", "centres", "queries", "rows", "distances", "convention", "max_memory", "resume")
    with options.with_threads(given["threads"]), Shown(given["shown"]):
        report = merge_files(list(given["parts"]), format=given["out_format"], **{name: given[name] for name in names})
    steps = f" ({report.resumed_at} of {report.steps} steps were done before)" if report.resumed_at else ""
    lines = [
        f"{report.n_parts} parts: {report.bytes_read} bytes read{steps}",
        f"{report.bytes_taken} bytes of the centres ({report.share_taken:.2%}) to tell near-ties apart",
        f"{report.out}: {report.shape[0]} x {report.shape[1]}, {report.seconds:.2f} s",
    ]
    tell(lines, asdict(report) | {"out": str(report.out)}, (), given)
