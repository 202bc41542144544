"""`janelia-knn search`: neighbours from file to file."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import asdict

from janelia_core.commands import arguments
from janelia_core.suffixes import FORMATS


def add(commands: arguments.Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "search",
        help="find the k nearest centres of every query, from file to file",
        description="Find the k nearest centres of every query, from file to file: exactly, in bounded memory, however "
        f"large the files. Formats by suffix: {' '.join(FORMATS)}.",
    )
    arguments.add_inputs(parser)
    parser.add_argument("-k", type=arguments.positive, required=True, help="neighbours of each query")
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="where the answer goes")
    parser.add_argument("--out-format", metavar="F", help="format of OUT, if its suffix does not say")
    parser.add_argument("--distances", metavar="FILE", help="write the distances to a file of their own as well")
    arguments.add_metric(parser)
    parser.add_argument("-m", type=arguments.positive, help="centres whose scores are held at once; default: what fits")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished search beside OUT")
    arguments.add_choice(parser)
    arguments.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Search, and say what was done."""
    from janelia_core.commands.bar import Bar
    from janelia_core.files import search_files

    arguments.use_threads(options)
    try:
        with Bar() as bar:
            report = search_files(
                options.centres,
                options.queries,
                k=options.k,
                out=options.out,
                distances=options.distances,
                metric=options.metric,
                m=options.m,
                formats=(options.centres_format, options.queries_format, options.out_format),
                resume=options.resume,
                progress=bar,
                **arguments.choice(options),
            )
    except KeyboardInterrupt:
        given = [part for part in options.argv if part != "--resume"]
        raise KeyboardInterrupt(f"go on with: {shlex.join(['janelia-knn', *given, '--resume'])}") from None
    if options.json:
        facts = asdict(report) | {"out": str(report.out), "bytes_planned": report.layout.bytes_read}
        print(json.dumps(facts))
        return
    layout = report.layout
    steps = f" ({report.resumed_at} of {layout.n_steps} steps were done before)" if report.resumed_at else ""
    print(layout)
    print(f"read: {report.bytes_read} bytes{steps}, {report.bytes_taken} more to tell near-ties apart")
    print(f"{report.out}: {report.shape[0]} x {report.shape[1]}, {report.seconds:.2f} s, {', '.join(report.screens)}")
