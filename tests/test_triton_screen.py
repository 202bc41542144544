"""The Triton screen keeps the contract of screens: its answer is the unique one, and ordinary rows are proven by it."""

from __future__ import annotations

import warnings

import pytest
import torch

pytest.importorskip("triton", reason="needs the extra gpu-test")

from interpreted import interpreted
from oracle import nearest
from problems import KINDS, PROBLEMS
from triton_search import TURNS, WHOLE, asked_of, searched

BY_NORM = TURNS | {"biased": False}
READ = [name for name in PROBLEMS if PROBLEMS[name]().x.dtype != torch.bfloat16]
"""The interpreter multiplies bfloat16 wrongly."""
ORDINARY = ("gaussian", "line", "lattice", "duplicates", "far-clusters", "word-counts", "nearly-parallel")
OF_MANY_SIZES = [
    *(
        "gaussian-torch.float32",
        "gaussian-torch.int64",
        "lattice",
        "far-offset",
        "mixed-scales-64",
        "overflow-torch.float32",
    ),
    *("not-finite-torch.float32", "few-finite", "one-giant-coordinate", "subnormals-torch.float64", "duplicates"),
]
OF_DIRECTIONS = [
    *("directions-that-tie-torch.float32", "nearly-parallel-torch.float64", "word-counts", "subnormals-torch.float64"),
    *("not-finite-torch.float32", "overflow-torch.float32", "wide-integers", "mixed-scales-64"),
]
OF_PRODUCTS = [
    *("giant-centres", "not-finite-torch.float64", "few-finite", "mixed-scales-32", "near-swapped"),
    *("swapped-coordinates", "gaussian-torch.float16", "gaussian-torch.uint8", "one-giant-coordinate"),
]


def wrong(names: list[str], metric: str, how: dict[str, object]) -> list[str]:
    """What is not as it must be of some problems, where kernels are interpreted."""
    warnings.simplefilter("ignore")  # of NumPy, where numbers overflow
    said = []
    for name in names:
        x, ctrs, k = asked_of(name)
        found = searched(x, ctrs, k, metric, **how)
        if not torch.equal(found.indices, nearest(x, ctrs, k, metric)):
            said.append(f"{name}: wrong")
        if found.report.screen or found.report.look:
            said.append(f"{name}: {found.report}")
        if name.startswith(ORDINARY) and metric == "euclidean" and found.left:
            said.append(f"{name}: rows {found.left} are in doubt")
    return said


@pytest.mark.parametrize(
    ("names", "metric", "how"),
    [
        (KINDS[::2], "euclidean", WHOLE),
        (READ[::2], "euclidean", TURNS),
        (READ[1::2], "euclidean", TURNS),
        (OF_MANY_SIZES, "euclidean", BY_NORM),
        (OF_DIRECTIONS, "cosine", TURNS),
        (OF_PRODUCTS, "dot", TURNS),
        (OF_PRODUCTS, "dot", BY_NORM),
    ],
    ids=["whole", "turns", "turns-2", "by-norm", "cosine", "dot", "dot-by-norm"],
)
def test_answers_are_unique_and_ordinary_rows_are_proven(names: list[str], metric: str, how: dict[str, object]) -> None:
    assert interpreted(wrong, names, metric, how) == []
