"""`janelia-knn plan`: what a search of files would do."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from janelia_core.commands import arguments


def add(commands: arguments.Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "plan",
        help="say what a search would do: blocks, bytes read, screen",
        description="Say what a search with these arguments would do: blocks, loop order, bytes read, screen.",
    )
    arguments.add_inputs(parser)
    parser.add_argument("-k", type=arguments.positive, required=True, help="neighbours of each query")
    parser.add_argument("-m", type=arguments.positive, help="centres whose scores are held at once; default: what fits")
    arguments.add_choice(parser)
    arguments.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the plan."""
    from janelia_core.files import plan_files

    arguments.use_threads(options)
    plan = plan_files(
        options.centres,
        options.queries,
        k=options.k,
        m=options.m,
        formats=(options.centres_format, options.queries_format),
        **arguments.choice(options),
    )
    if options.json:
        facts = asdict(plan.layout) | {"bytes_planned": plan.layout.bytes_read, "screen": plan.block.screen}
        print(json.dumps(facts))
    else:
        print(plan)
