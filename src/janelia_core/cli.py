"""The command `janelia-knn`: its subcommands, and how it ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from typing import Any

import click

from janelia_core import __version__
from janelia_core.commands import demo, exit_codes, info, merge, plan, radius, search, verify, warm
from janelia_core.commands.subcommand import complain
from janelia_core.printable import one_line

_NAME = "janelia-knn"
_MOST = 270  # characters of what is wrong; the line has 30 more


class _Root(click.Group):
    """Ends quietly where nobody reads the help, on which click would put a code of its own."""

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        with _reader_may_go():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader_may_go():
            return super().invoke(ctx)


@contextlib.contextmanager
def _reader_may_go() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise click.exceptions.Exit(exit_codes.pipe_is_gone()) from None


@click.group(
    cls=_Root,
    help="Exact k-nearest-centre search in bounded memory.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
    subcommand_metavar="COMMAND [OPTIONS] [FILES]",
)
@click.version_option(__version__, prog_name="janelia-core", message="%(prog)s %(version)s")
def command() -> None:
    """Take a subcommand; see `janelia_core.commands`."""


for _module in (search.search, merge.merge, radius.radius, plan.plan, info.info, verify.verify, warm.warm, demo.demo):
    command.add_command(_module)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `janelia-knn` and return its exit code.

    Args:
        argv: the arguments after the command's name; those of the process if None.

    Returns:
        0 if all went well, 1 if `verify` found a wrong row, 2 after bad input or where a package is missing, 3 if the
        disk stopped a search that can be resumed, 130 after Ctrl-C, 143 after SIGTERM, 141 if nobody read the output.
    """
    # A terminal that lacks a letter of a city's name shows a question mark, and goes on.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        with exit_codes.ended_by_sigterm():
            code: int | None = command.main(arguments, _NAME, standalone_mode=False)
    except click.UsageError as error:
        where = _NAME if error.ctx is None else error.ctx.command_path
        what = error.format_message().rstrip(".")
        hint = "" if what.endswith(("?", "?)")) else f"; see {where} --help"
        complain(where, one_line(what, _MOST - len(hint)) + hint)
        return exit_codes.BAD_INPUT
    except click.Abort:
        return exit_codes.interrupted()[0]
    return code or exit_codes.OK


if __name__ == "__main__":
    sys.exit(main())
