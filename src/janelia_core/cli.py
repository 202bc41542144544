"""The command `janelia-knn`: one subcommand a job, each imported when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from io import TextIOWrapper

from janelia_core.extras import MissingExtraError

OK, BAD_INPUT, INTERRUPTED = 0, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `janelia-knn` and return its exit code.

    Args:
        argv: the arguments after the command's name; those of the process if None.

    Returns:
        0 if all went well, 2 after bad input or where a package is missing, 130 after Ctrl-C.
    """
    # A terminal that lacks a letter of a city's name shows a question mark, and goes on.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = build_parser().parse_args(argv)
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
    except (MissingExtraError, OSError, ValueError) as error:
        print(f"janelia-knn {options.command}: error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"janelia-knn {options.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return OK


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with every subcommand in it."""
    parser = argparse.ArgumentParser(prog="janelia-knn", description="Exact k-nearest-centre search in bounded memory.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    _add_demo(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when asked, so that a tree that is not installed can run."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"janelia-core {version('janelia-core')}")
        parser.exit()


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="find the big cities nearest to every populated place on Earth",
        description="Find the big cities nearest to every populated place on Earth, print some of them, and "
        "draw a world map coloured by the nearest. Needs: pip install 'janelia-core[demo]'",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("-k", "--k", type=_positive, default=3, metavar="K", help="neighbours of each place")
    demo.add_argument(
        "--centres",
        type=_positive,
        default=4000,
        metavar="N",
        help="the N most populous places are the centres",
    )
    demo.add_argument("-m", "--m", type=_positive, default=1000, metavar="M", help="centres scored at once")
    demo.add_argument("-o", "--out", default="demo.png", metavar="FILE", help="where the map goes")
    demo.add_argument("--no-plot", action="store_true", help="draw no map, so that matplotlib is not needed")
    demo.set_defaults(run=_run_demo, fail=demo.error)


def _run_demo(options: argparse.Namespace) -> None:
    if options.k > options.centres:
        options.fail(f"argument --k: {options.k} neighbours do not exist among {options.centres} centres")
    from janelia_core.demo.run import run_demo  # imports torch, which --help should not wait for

    run_demo(options.k, options.centres, options.m, None if options.no_plot else options.out)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


# argparse names the type in its message: "invalid positive integer value: 'x'".
_positive.__name__ = "positive integer"


if __name__ == "__main__":
    sys.exit(main())
