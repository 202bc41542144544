"""How a subcommand ends: with one line about what is wrong, and an exit code."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import click

from janelia_core.commands import exit_codes
from janelia_core.extras import MissingExtraError
from janelia_core.printable import one_line
from janelia_core.suffixes import FORMATS

_LONGEST = 1000  # characters of a warning


class Subcommand(click.Command):
    """A subcommand whose errors are one line on stderr."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take `-k=3` for `-k3`, as `--k=3` is."""
        end = args.index("--") if "--" in args else len(args)
        given = [arg[:2] + arg[3:] if re.match("-[a-z]=.", arg) else arg for arg in args[:end]]
        return super().parse_args(ctx, given + args[end:])

    def get_help(self, ctx: click.Context) -> str:
        """Return its help, in which {formats} are those that there are now."""
        self.help = (self.help or "").replace("{formats}", " ".join(FORMATS))
        return super().get_help(ctx)

    def invoke(self, ctx: click.Context) -> int:
        """Run it, and return the exit code."""
        name = ctx.command_path
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _one_line(name)
                code: int | None = super().invoke(ctx)
                sys.stdout.flush()
            return code or exit_codes.OK
        except BrokenPipeError:  # see cli
            raise
        except (MissingExtraError, OSError, ValueError, MemoryError) as error:
            if ctx.params.get("debug"):
                raise
            complain(name, said(error))
            return exit_codes.CAN_RESUME if _can_go_on(error) else exit_codes.BAD_INPUT
        except KeyboardInterrupt as stop:
            code, word = exit_codes.interrupted()
            print(f"{name}: {word}{f'; {stop}' if str(stop) else ''}", file=sys.stderr)
            return code


def complain(name: str, what: str) -> None:
    """Say in one line what is wrong."""
    print(f"{name}: error: {what}", file=sys.stderr)


def tell(lines: Sequence[str], facts: Mapping[str, Any], notes: Sequence[str], given: Mapping[str, Any]) -> None:
    """Report what was done; where the answer itself goes to standard output, on stderr.

    Args:
        lines: In words.
        facts: For JSON.
        notes: What else the caller should know.
        given: The command's options.
    """
    import json

    for sentence in notes:
        note(f"{click.get_current_context().command_path}: note: {sentence}")
    where = sys.stderr if given["out"] == "-" else sys.stdout
    print(json.dumps(facts) if given["as_json"] else "\n".join(lines), file=where)


def note(what: str) -> None:
    """Say on stderr what is worth knowing, without breaking a bar that is there."""
    if "tqdm" in sys.modules:
        sys.modules["tqdm"].tqdm.write(what, file=sys.stderr)
    else:
        print(what, file=sys.stderr)


def said(error: Exception) -> str:
    """Return what an error says in one line."""
    if isinstance(error, MemoryError):
        return "the memory of this machine does not suffice; take a smaller --max-memory"
    from janelia_core.files.errors import error_line

    return error_line(error)


def _can_go_on(error: Exception) -> bool:
    from janelia_core.files.resumable import StoppedError

    return isinstance(error, StoppedError)


def _one_line(name: str) -> Any:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        note(f"{name}: warning: {one_line(str(message), _LONGEST)}")

    return show
