"""`janelia-knn warm`: kernels compiled before anybody waits for them."""

from __future__ import annotations

import argparse
import json

from janelia_core.commands import arguments

_DTYPES = ("float32", "float64")


def add(commands: arguments.Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "warm",
        help="compile the kernels of searches now, for processes to come",
        description="Compile the kernels of searches on a CPU, and say where they are kept: in NUMBA_CACHE_DIR if that "
        "is set, else beside the package, else in the user's cache. For images of containers, and for CI.",
    )
    parser.add_argument(
        "--dtype", action="append", choices=_DTYPES, help="of the points; may be given several times; default: float32"
    )
    arguments.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Load or compile, and print what was done."""
    import torch

    from janelia_core.ml.warming import warm

    warmed = warm(tuple(getattr(torch, name) for name in options.dtype or _DTYPES[:1]))
    folders = sorted(map(str, warmed.folders))
    if options.json:
        print(json.dumps({"screens": sorted(warmed.screens), "seconds": warmed.seconds, "folders": folders}))
    else:
        print(f"kernels of the screens {', '.join(sorted(warmed.screens))}: {warmed.seconds:.1f} s")
        print("\n".join(["kept in", *(f"  {folder}" for folder in folders)] if folders else ["not kept on disk"]))
