"""`janelia-knn info`: what is in a file."""

from __future__ import annotations

from typing import Any

import click

from janelia_core.commands import options
from janelia_core.commands.subcommand import Subcommand


@click.command(
    cls=Subcommand,
    short_help="Say what is in a file: shape, range, duplicates, screen.",
    help="Say what is in a file: shape, dtype, range, rows that are not finite or there twice, which screen a search "
    "of it would run, and about how long that takes.",
)
@options.files("FILE")
@options.format_of("FILE", "--format")
@options.memory(here=True)
@options.threads
@options.report
def info(**given: Any) -> None:
    """Print what is in the file."""
    from janelia_core.files import info_file

    with options.with_threads(given["threads"]):
        found = info_file(given["files"][0], given["format"], max_memory=given["max_memory"])
    if given["as_json"]:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(found) | {"path": str(found.path), "dtype": str(found.dtype).removeprefix("torch.")}))
    else:
        print(found)
