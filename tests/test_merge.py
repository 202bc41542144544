"""Centres that come in blocks give the answer of one search over all of them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.find import find
from janelia_core.ml._knn.merge import Running, extend
from problems import KINDS, PROBLEMS, Problem


def in_blocks(problem: Problem, edges: list[int], metric: str) -> Tensor:
    """Return the answer (k, n_smps) from centres edges[0] .. edges[1] - 1, and so on."""
    running = Running.empty(len(problem.x), problem.k, metric)
    for start, stop in itertools.pairwise(edges):
        extend(running, problem.x, problem.ctrs[start:stop], start, Points(problem.ctrs), max_memory=2**26)
    return running.indices.T


def splits(n: int, k: int) -> list[list[int]]:
    """Return ways to cut n centres: halves, some forty blocks smaller than k before a large one, uneven ones."""
    g = torch.Generator().manual_seed(n)
    uneven = sorted({0, n, *torch.randint(1, n, (6,), generator=g).tolist()})
    size = max(1, k - 1)
    return [[0, n // 2, n], sorted({*range(0, min(n, 40 * size), size), n}), uneven]


@pytest.mark.parametrize("name", KINDS)
def test_every_split_of_the_centres_gives_the_answer_of_one_search(name: str) -> None:
    problem = PROBLEMS[name]()
    for metric in ("euclidean", "dot", "cosine", "manhattan", "chebyshev"):
        whole = find(problem.x, problem.ctrs, problem.k, metric=metric)
        ways = splits(len(problem.ctrs), problem.k)
        for edges in ways if metric == "euclidean" else ways[-1:]:
            assert torch.equal(in_blocks(problem, edges, metric), whole), (metric, edges)
