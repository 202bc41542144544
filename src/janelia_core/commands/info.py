"""`janelia-knn info`: what is in a file."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from janelia_core.commands import arguments


def add(commands: arguments.Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "info",
        help="say what is in a file: shape, range, duplicates, screen",
        description="Say what is in a file: shape, dtype, range, rows that are not finite or there twice, which screen "
        "a search of it would run, and about how long that takes.",
    )
    parser.add_argument("file", metavar="FILE", help="file of vectors; FILE::NAME for one of several arrays")
    parser.add_argument("--format", metavar="F", help="its format, if the suffix does not say")
    arguments.add_memory(parser)
    arguments.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print what is in the file."""
    from janelia_core.files import info_file

    arguments.use_threads(options)
    info = info_file(options.file, options.format, max_memory=options.max_memory)
    if options.json:
        print(json.dumps(asdict(info) | {"path": str(info.path), "dtype": str(info.dtype).removeprefix("torch.")}))
    else:
        print(info)
