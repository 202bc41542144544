"""`janelia-knn warm`: kernels compiled before anybody waits for them."""

from __future__ import annotations

from typing import Any

import click

from janelia_core.commands import options
from janelia_core.commands.subcommand import Subcommand

_DTYPES = ("float32", "float64")


@click.command(
    cls=Subcommand,
    short_help="Compile the kernels of searches now, for processes to come.",
    help="Compile the kernels of searches on a CPU, and say where they are kept: in NUMBA_CACHE_DIR if that is set, "
    "else beside the package, else in the user's cache. For images of containers, and for CI.",
)
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(_DTYPES),
    multiple=True,
    default=_DTYPES[:1],
    metavar="DTYPE",
    help=f"{' or '.join(_DTYPES)}, of the points; may be given several times; default: {_DTYPES[0]}.",
)
@options.report
def warm(**given: Any) -> None:
    """Load or compile, and print what was done."""
    import torch

    from janelia_core.ml.warming import warm

    warmed = warm(tuple(getattr(torch, name) for name in given["dtypes"]))
    folders = sorted(map(str, warmed.folders))
    if given["as_json"]:
        import json

        print(json.dumps({"screens": sorted(warmed.screens), "seconds": warmed.seconds, "folders": folders}))
    else:
        print(f"kernels of the screens {', '.join(sorted(warmed.screens))}: {warmed.seconds:.1f} s")
        print("\n".join(["kept in", *(f"  {folder}" for folder in folders)] if folders else ["not kept on disk"]))
