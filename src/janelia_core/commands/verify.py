"""`janelia-knn verify`: is another tool's answer right?"""

from __future__ import annotations

from typing import Any

import click

from janelia_core.commands import options
from janelia_core.commands.exit_codes import OK, WRONG_ROWS
from janelia_core.commands.subcommand import Subcommand
from janelia_core.commands.values import WHOLE


@click.command(
    cls=Subcommand,
    short_help="Check another tool's answer: recall, wrong rows.",
    help="Check another tool's answer against the exact one. ANSWER is a file of row numbers of CENTRES, a row for "
    "every query. A centre counts if it is no farther than the true k-th neighbour, and is listed once; a row is wrong "
    "as well where it leaves out a nearer one. Exit code: 0 all right, 1 some row wrong, 2 bad input.",
)
@options.files("CENTRES [QUERIES] ANSWER")
@click.option("-k", type=WHOLE, metavar="K", help="Check the first K columns; default: all.")
@options.format_of("ANSWER")
@options.metric
@options.choice(here=True)
@options.progress
@options.report
def verify(**given: Any) -> int:
    """Print how right the answer is, and return the exit code."""
    from janelia_core.commands.progress import Shown
    from janelia_core.files import verify_files

    with options.with_threads(given["threads"]), Shown(given["shown"]):
        found = verify_files(
            **options.asked(given),
            answer=given["files"][2],
            k=given["k"],
            formats=(None, None, given["answer_format"]),
        )
    if given["as_json"]:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(found) | {"recall": found.recall}))
    else:
        print(found)
    return OK if found.all_right else WRONG_ROWS
