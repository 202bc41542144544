"""`janelia-knn plan`: what a search of files would do."""

from __future__ import annotations

from typing import Any

import click

from janelia_core.commands import options
from janelia_core.commands.subcommand import Subcommand


@click.command(
    cls=Subcommand,
    short_help="Say what a search would do: blocks, bytes read, screen, disk, time.",
    help="Say what a search with these arguments would do: blocks, loop order, bytes read, screens, room on the disk, "
    "time. It takes every option that decides that.",
)
@options.files("CENTRES [QUERIES]")
@options.search(planned=True)
@options.report
def plan(**given: Any) -> None:
    """Print the plan."""
    from janelia_core.files import plan_files

    with options.with_threads(given["threads"]):
        planned = plan_files(**options.asked_search(given))
    if given["as_json"]:
        import json

        print(json.dumps(planned.facts()))
    else:
        print(planned)
