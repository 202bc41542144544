"""Options that several subcommands share: each is said once, so that no two commands drift apart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from janelia_core.commands.values import FILE, PART, ROWS, SHAPE, SIZE, SIZE_HERE, THREADS, WHOLE, FormatName
from janelia_core.suffixes import ALIASES, FORMATS, NAMED, READ_ONLY

METRICS = ("euclidean", "sqeuclidean", "cosine", "dot", "manhattan", "chebyshev", "haversine")
OTHER_NAMES = ("l2", "ip", "mips", "inner_product", "angular", "l1", "cityblock", "linf")
DTYPES = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
CONVENTIONS = ("ours", "ann-benchmarks", "faiss", "big-ann", "diskann")
MATCHES = ("any", "all")
MODES = ("auto", "bar", "log", "json", "none")
READ = FormatName(FORMATS, READ_ONLY, ALIASES)
_WRITTEN = FormatName(FORMATS, ALIASES, NAMED)

F = TypeVar("F", bound=Callable[..., Any])
Option = Callable[[F], F]


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return options as one, shown in this order."""

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def files(usage: str) -> Callable[[F], F]:
    """Return the files of a command, of which those in brackets may be left out: `CENTRES [QUERIES] ANSWER`."""
    names = usage.split()
    needed = [name for name in names if not name.startswith("[")]

    def check(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> list[str | None]:
        if ctx.resilient_parsing:  # the shell asks for a completion
            return []
        if len(given) < len(needed):
            raise click.UsageError(f"Missing {needed[len(given)]}: the files are {usage}.", ctx)
        if len(given) > len(names):
            quotes = "put a pattern such as 'base.*.fbin' in quotes, or the shell expands it"
            raise click.UsageError(f"{len(given)} files are given, where {usage} is expected; {quotes}.", ctx)
        left_out = len(names) - len(given)
        rest = iter(given)
        return [None if name.startswith("[") and left_out else next(rest) for name in names]

    return click.argument("files", nargs=-1, metavar=usage, type=FILE, callback=check)


def format_of(role: str, *names: str) -> Callable[[F], F]:
    """Return the option that says the format of a file that is read."""
    told = f"Format of {role}, if its suffix does not say."
    return click.option(*(names or [f"--{role.lower()}-format"]), type=READ, metavar="F", help=told)


convention = click.option(
    "--convention",
    type=click.Choice(CONVENTIONS, case_sensitive=False),
    metavar="NAME",
    help=f"Distances as other tools write them: {', '.join(CONVENTIONS)}; default: ours.",
)


def out(formats: str, *, required: bool = True) -> Callable[[F], F]:
    """Return where an answer goes, in one of some formats, or in any."""
    given = formats.split()
    kinds = FormatName(given) if given else _WRITTEN
    told = f"Where the answer goes{f': {formats}' if given else ''}; - is standard output."
    named = " Also ann-benchmarks: a whole data set." if not given else ""
    return together(
        click.option("-o", "--out", type=FILE, required=required, metavar="OUT", help=told),
        click.option("--out-format", type=kinds, metavar="F", help=f"Its format, if the suffix does not say.{named}"),
        convention,
    )


m = click.option("-m", type=WHOLE, metavar="M", help="Centres whose scores are held at once; default: what fits.")
metric = click.option(
    "--metric",
    type=click.Choice([*METRICS, *OTHER_NAMES], case_sensitive=False),
    metavar="NAME",
    help=f"{', '.join(METRICS)}; also {', '.join(OTHER_NAMES)}. Default: what CENTRES says, else euclidean.",
)
threads = click.option("--threads", type=THREADS, metavar="N", help="Threads; default: as many as torch takes.")
debug = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
report = together(click.option("--json", "as_json", is_flag=True, help="Report as JSON."), debug)
progress = click.option(
    "--progress",
    "shown",
    type=click.Choice(MODES),
    default="auto",
    metavar="HOW",
    help="bar, log (a line a minute), json (lines, on stderr) or none; default: bar on a terminal, else log.",
)


labels = together(
    click.option(
        "--labels",
        type=(FILE, FILE),
        metavar="BASE QUERY",
        help="Labels of all centres and of all queries: a query meets centres that share one. .spmat, .txt (a line a "
        "row, labels between commas), or integers in any format.",
    ),
    click.option(
        "--labels-match",
        type=click.Choice(MATCHES),
        default="any",
        metavar="HOW",
        help="any, or all: centres that have all labels of the query. Default: any.",
    ),
)


part = click.option(
    "--part",
    type=PART,
    metavar="I/N",
    help="Search one of N ranges of the centres, I from 0, for janelia-knn merge; OUT is NAME.part then.",
)


def memory(*, here: bool) -> Callable[[F], F]:
    """Return how much a command may take; where it runs `here`, no more than this machine has."""
    told = "Bytes held at most; default: 1GiB."
    return click.option("--max-memory", type=SIZE_HERE if here else SIZE, metavar="SIZE", default="1GiB", help=told)


def choice(*, here: bool) -> Callable[[F], F]:
    """Return which rows are meant, and how they are read and searched."""
    return together(
        click.option("--rows", type=ROWS, metavar="A:B", default=":", help="Queries from row A up to B."),
        click.option("--ctr-rows", type=ROWS, metavar="A:B", default=":", help="Centres from row A up to B."),
        click.option(
            "--dtype",
            type=click.Choice(DTYPES + INTEGERS),
            metavar="DTYPE",
            help=f"Round to {', '.join(DTYPES)} first; of raw memory, which takes integers too: what it holds.",
        ),
        format_of("CENTRES"),
        format_of("QUERIES"),
        click.option(
            "--header/--no-header",
            default=None,
            help="Whether tables (.csv) begin with a line of names; default: the table decides.",
        ),
        click.option("--shape", type=SHAPE, metavar="N,D", help="Rows and columns of CENTRES in raw memory, or D."),
        click.option("--queries-shape", type=SHAPE, metavar="N,D", help="The same of QUERIES."),
        click.option("--stored", metavar="DTYPE", help="Numbers of raw memory and .bin: float32, uint8, >f8, .."),
        click.option("--device", metavar="NAME", help="Where to search, for example cuda; default: cpu."),
        memory(here=here),
        threads,
    )


def search(*, k: int | None = None, planned: bool = False) -> Callable[[F], F]:
    """Return all options of a search but `--resume`: what plans one takes the same.

    Args:
        k: Neighbours where nobody says how many; None: it has to be said.
        planned: It does not run, so that it needs no OUT, and may be for a larger machine.
    """
    told = "Neighbours of each query" + ("." if k is None else f"; default: {k}.")
    return together(
        click.option("-k", type=WHOLE, required=k is None, default=k, metavar="K", help=told),
        out("", required=not planned),
        click.option("--distances", type=FILE, metavar="FILE", help="The distances, in a file of their own as well."),
        metric,
        m,
        labels,
        part,
        choice(here=not planned),
    )


def asked_search(options: dict[str, Any]) -> dict[str, Any]:
    """Return what `files` and `search` found as the Python functions take it."""
    names = ("k", "out", "distances", "convention", "part")
    return {
        **asked(options),
        **{name: options[name] for name in names},
        "formats": (None, None, options["out_format"]),
    }


def asked(options: dict[str, Any]) -> dict[str, Any]:
    """Return what `files` and `choice` found as the Python functions take it."""
    from janelia_core.files.inputs.input import Input

    def file(where: str | None, role: str, shape: tuple[int | None, int] | None) -> Input | None:
        format = options[f"{role}_format"]
        return None if where is None else Input(where, format, options["header"], shape, options["stored"])

    names = ("rows", "ctr_rows", "dtype", "device", "max_memory", "metric", "m", "labels", "labels_match")
    found = {name: options[name] for name in names if name in options}
    centres, queries = options["files"][:2]
    return {
        "centres": file(centres, "centres", options["shape"]),
        "queries": file(queries, "queries", options["queries_shape"]),
        **found,
    }


@contextlib.contextmanager
def with_threads(number: int | None) -> Iterator[None]:
    """Have torch take so many threads inside the block."""
    if number is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
