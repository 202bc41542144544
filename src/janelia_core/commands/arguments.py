"""Arguments that several subcommands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, TypeAlias

from janelia_core.sizes import parse_bytes, parse_rows

METRICS = ("euclidean", "sqeuclidean", "cosine", "dot", "manhattan", "chebyshev", "haversine")
DTYPES = ("float16", "bfloat16", "float32", "float64")


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""The subcommands, to which each file here adds its own."""


class AnyOrder:
    """Stands for a command's parser among the subcommands, and takes its files and options in any order.

    argparse itself would take no QUERIES after an option: `search CENTRES -k 3 QUERIES`.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser

    def parse_known_args(
        self, arguments: Sequence[str], namespace: argparse.Namespace | None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse what follows the command's name."""
        return self._parser.parse_known_intermixed_args(arguments, namespace)


def positive(text: str) -> int:
    """Return a whole number from 1 up."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _size(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rows(text: str) -> tuple[int | None, int | None]:
    try:
        return parse_rows(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# argparse names the type in its message: "invalid positive integer value: 'x'".
positive.__name__ = "positive integer"


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the files that are searched."""
    parser.add_argument("centres", metavar="CENTRES", help="file of vectors; FILE::NAME for one of several arrays")
    parser.add_argument(
        "queries", metavar="QUERIES", nargs="?", help="file of vectors; default: CENTRES, self excluded"
    )


def add_metric(parser: argparse.ArgumentParser) -> None:
    """Add what nearest means."""
    known = ", ".join(METRICS)
    parser.add_argument(
        "--metric", choices=METRICS, metavar="NAME", default="euclidean", help=f"{known}; default: euclidean"
    )


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add which rows are meant, and how they are read and searched."""
    parser.add_argument("--rows", type=_rows, metavar="A:B", default=(None, None), help="queries from row A up to B")
    parser.add_argument(
        "--ctr-rows", type=_rows, metavar="A:B", default=(None, None), help="centres from row A up to B"
    )
    parser.add_argument("--dtype", choices=DTYPES, metavar="DTYPE", help=f"round to {', '.join(DTYPES)} first")
    parser.add_argument("--centres-format", metavar="F", help="format of CENTRES, if its suffix does not say")
    parser.add_argument("--queries-format", metavar="F", help="format of QUERIES, likewise")
    parser.add_argument("--device", help="where to search, for example cuda; default: cpu")
    add_memory(parser)


def add_memory(parser: argparse.ArgumentParser) -> None:
    """Add what a command may take."""
    parser.add_argument(
        "--max-memory", type=_size, metavar="SIZE", default="1GiB", help="bytes held at most, default 1GiB"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="threads; default: as many as torch takes")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add how the command reports."""
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def choice(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `add_choice` as the Python API takes them; formats are the caller's."""
    return {
        "rows": options.rows,
        "ctr_rows": options.ctr_rows,
        "dtype": options.dtype,
        "device": options.device,
        "max_memory": options.max_memory,
    }


def use_threads(options: argparse.Namespace) -> None:
    """Set this process's number of threads, as asked."""
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)
