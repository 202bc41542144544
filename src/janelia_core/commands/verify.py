"""`janelia-knn verify`: is another tool's answer right?"""

from __future__ import annotations

from typing import Any

import click

from janelia_core.commands import options
from janelia_core.commands.exit_codes import OK, WRONG_ROWS
from janelia_core.commands.subcommand import Subcommand, note
from janelia_core.commands.values import FILE, WHOLE


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
@click.option("--distances", type=FILE, metavar="FILE", help="Check its distances; default: those in ANSWER, if any.")
@options.convention
@click.option("-o", "--out", type=FILE, metavar="OUT", help="Where the exact answer goes as well.")
@click.option("--resume", is_flag=True, help="Go on with the unfinished check beside OUT, else beside ANSWER.")
@options.metric
@options.labels
@options.choice(here=True)
@options.progress
@options.report
def verify(**given: Any) -> int:
    """Print how right the answer is, and return the exit code."""
    from janelia_core.commands.progress import Shown
    from janelia_core.files import Input, verify_files

    if given["out"] == "-":
        raise click.BadParameter("standard output has the report; name a file", param_hint="'--out'")
    answer = Input(given["files"][2], given["answer_format"], given["header"])
    with options.with_threads(given["threads"]), Shown(given["shown"]):
        found = verify_files(
            **options.asked(given),
            answer=answer,
            k=given["k"],
            distances=given["distances"],
            convention=given["convention"],
            out=given["out"],
            resume=given["resume"],
        )
    for sentence in found.notes:
        note(f"janelia-knn verify: note: {sentence}")
    if given["as_json"]:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(found) | {"recall": found.recall}))
    else:
        print(found)
    return OK if found.all_right else WRONG_ROWS
