"""`janelia-knn info`: what is in a file."""

from __future__ import annotations

from typing import Any

import click

from janelia_core.commands import options
from janelia_core.commands.subcommand import Subcommand


@click.command(
    cls=Subcommand,
    short_help="Say what is in a file: shape, range, duplicates, screen.",
    help="Say what is in a file: shape, dtype, range, rows that are not finite or there twice, and what "
    "a search of it does and takes, as plan tells: by default of the 10 nearest of every row.",
)
@options.files("FILE [QUERIES]")
@options.search(k=10, planned=True)
@click.option("--format", "format_", type=options.READ, metavar="F", help="The same as --centres-format.")
@options.report
def info(**given: Any) -> None:
    """Print what is in the file."""
    from janelia_core.files import info_file

    with options.with_threads(given["threads"]):
        found = info_file(**options.asked_search(given), format=given["format_"])
    if given["as_json"]:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(found) | {"path": str(found.path), "dtype": str(found.dtype).removeprefix("torch.")}))
    else:
        print(found)
