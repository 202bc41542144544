"""`janelia-knn radius`: all neighbours within a radius, from file to file."""

from __future__ import annotations

import argparse
import json

from janelia_core.commands import arguments


def add(commands: arguments.Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "radius",
        help="find all centres within a radius of every query, from file to file",
        description="Find all centres within a radius of every query, from file to file: exactly, in bounded memory.",
    )
    arguments.add_inputs(parser)
    parser.add_argument("--radius", type=float, required=True, metavar="R", help="a centre at distance R still belongs")
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="where the answer goes: .rangeres or .npz")
    parser.add_argument("--out-format", metavar="F", help="rangeres or npz, if the suffix of OUT does not say")
    arguments.add_metric(parser)
    arguments.add_choice(parser)
    arguments.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Search, and say what was done."""
    from janelia_core.commands.bar import Bar
    from janelia_core.files import radius_files

    arguments.use_threads(options)
    with Bar() as bar:
        report = radius_files(
            options.centres,
            options.queries,
            radius=options.radius,
            out=options.out,
            metric=options.metric,
            formats=(options.centres_format, options.queries_format, options.out_format),
            progress=bar,
            **arguments.choice(options),
        )
    if options.json:
        print(json.dumps(report._asdict() | {"out": str(report.out)}))
        return
    print(f"read: {report.bytes_read} bytes")
    print(f"{report.out}: {report.found} neighbours of {report.n} queries, {report.seconds:.2f} s")
