"""The command `janelia-knn`: one subcommand a job, each imported when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper

from janelia_core import __version__
from janelia_core.commands import info, plan, search, verify
from janelia_core.commands.arguments import Command, positive
from janelia_core.extras import MissingExtraError

OK, BAD_INPUT, INTERRUPTED = 0, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `janelia-knn` and return its exit code.

    Args:
        argv: the arguments after the command's name; those of the process if None.

    Returns:
        0 if all went well, 1 if `verify` found a wrong row, 2 after bad input or where a package is missing, 130 after
        Ctrl-C.
    """
    # A terminal that lacks a letter of a city's name shows a question mark, and goes on.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = build_parser().parse_args(argv)
    options.argv = sys.argv[1:] if argv is None else list(argv)
    run: Callable[[argparse.Namespace], int | None] = options.run
    try:
        return run(options) or OK
    except (MissingExtraError, OSError, ValueError) as error:
        if getattr(options, "debug", False):
            raise
        print(f"janelia-knn {options.command}: error: {_said(error)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as stop:
        told = f"; {stop}" if str(stop) else ""
        print(f"janelia-knn {options.command}: interrupted{told}", file=sys.stderr)
        return INTERRUPTED


def _said(error: Exception) -> str:
    """Return what an error says in one line: of the system's, the file and the reason without the number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with every subcommand in it."""
    parser = argparse.ArgumentParser(prog="janelia-knn", description="Exact k-nearest-centre search in bounded memory.")
    parser.add_argument(
        "--version", action="version", version=f"janelia-core {__version__}", help="show the version and exit"
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands", parser_class=Command
    )
    for command in (search, plan, info, verify):
        command.add(commands)
    _add_demo(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[Command]) -> None:
    demo = commands.add_parser(
        "demo",
        help="find the big cities nearest to every populated place on Earth",
        description="Find the big cities nearest to every populated place on Earth, print some of them, and "
        "draw a world map coloured by the nearest. Needs: pip install 'janelia-core[demo]'",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("-k", "--k", type=positive, default=3, metavar="K", help="neighbours of each place")
    demo.add_argument(
        "--centres",
        type=positive,
        default=4000,
        metavar="N",
        help="the N most populous places are the centres",
    )
    demo.add_argument("-m", "--m", type=positive, default=1000, metavar="M", help="centres scored at once")
    demo.add_argument("-o", "--out", default="demo.png", metavar="FILE", help="where the map goes")
    demo.add_argument("--no-plot", action="store_true", help="draw no map, so that matplotlib is not needed")
    demo.set_defaults(run=_run_demo, fail=demo.error)


def _run_demo(options: argparse.Namespace) -> None:
    if options.k > options.centres:
        options.fail(f"argument --k: {options.k} neighbours do not exist among {options.centres} centres")
    from janelia_core.demo.run import run_demo  # imports torch, which --help should not wait for

    run_demo(options.k, options.centres, options.m, None if options.no_plot else options.out)


if __name__ == "__main__":
    sys.exit(main())
