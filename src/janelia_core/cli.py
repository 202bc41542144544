"""The command `janelia-knn`: one subcommand a job, each imported when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper

from janelia_core import __version__
from janelia_core.commands import demo, info, plan, radius, search, verify, warm
from janelia_core.commands.arguments import AnyOrder
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
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for command in (search, radius, plan, info, verify, warm, demo):
        command.add(commands)
    found: dict[str, object] = commands.choices  # type: ignore[assignment]
    found.update({name: AnyOrder(commands.choices[name]) for name in found})
    return parser


if __name__ == "__main__":
    sys.exit(main())
