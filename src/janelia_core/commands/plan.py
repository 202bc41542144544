"""`janelia-knn plan`: what a search of files would do."""

from __future__ import annotations

from typing import Any

import click

from janelia_core.commands import options
from janelia_core.commands.subcommand import Subcommand


@click.command(
    cls=Subcommand,
    short_help="Say what a search would do: blocks, bytes read, screen.",
    help="Say what a search with these arguments would do: blocks, loop order, bytes read, screen.",
)
@options.files("CENTRES [QUERIES]")
@options.k_needed
@options.m
@options.choice(here=False)
@options.report
def plan(**given: Any) -> None:
    """Print the plan."""
    from janelia_core.files import plan_files

    with options.with_threads(given["threads"]):
        planned = plan_files(**options.asked(given), k=given["k"])
    if given["as_json"]:
        import json
        from dataclasses import asdict

        layout = planned.layout
        print(json.dumps(asdict(layout) | {"bytes_planned": layout.bytes_read, "screen": planned.block.screen}))
    else:
        print(planned)
