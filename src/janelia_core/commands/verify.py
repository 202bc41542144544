"""`janelia-knn verify`: is another tool's answer right?"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from janelia_core.commands import arguments

WRONG = 1


def add(commands: arguments.Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "verify",
        help="check another tool's answer: recall, wrong rows",
        description="Check another tool's answer against the exact one. A centre counts if it is no farther than the "
        "true k-th neighbour, and is listed once; a row is wrong as well where it leaves out a nearer one. Exit code: "
        "0 all right, 1 some row wrong, 2 bad input.",
    )
    arguments.add_inputs(parser)
    parser.add_argument("answer", metavar="ANSWER", help="file of row numbers of CENTRES, a row for every query")
    parser.add_argument("-k", type=arguments.positive, help="check the first k columns; default: all")
    parser.add_argument("--answer-format", metavar="F", help="format of ANSWER, if its suffix does not say")
    arguments.add_metric(parser)
    arguments.add_choice(parser)
    arguments.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print how right the answer is, and return the exit code."""
    from janelia_core.commands.bar import Bar
    from janelia_core.files import verify_files

    arguments.use_threads(options)
    with Bar() as bar:
        found = verify_files(
            options.centres,
            options.queries,
            options.answer,
            k=options.k,
            metric=options.metric,
            formats=(options.centres_format, options.queries_format, options.answer_format),
            progress=bar,
            **arguments.choice(options),
        )
    print(json.dumps(asdict(found) | {"recall": found.recall}) if options.json else found)
    return 0 if found.all_right else WRONG
