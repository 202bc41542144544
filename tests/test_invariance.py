"""The answer does not depend on how it was computed."""

from __future__ import annotations

import threading

import pytest
import torch

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml.extra_torch_functions import knn_mc
from plans import changed, run
from problems import LOW_FORMATS, PROBLEMS, gaussian

HARD = [
    "gaussian-torch.float32",
    "lattice",
    "duplicates",
    "near-swapped",
    "far-offset",
    "not-finite-torch.float32",
    "all-equal",
]


def searched(x, ctrs, k, **changes):
    """Search with a plan whose fields were changed."""
    plan = make_plan(x.shape[0], ctrs.shape[0], x.shape[1], k, m=10**6)
    return run(x, ctrs, changed(plan, **changes))


@pytest.mark.parametrize("name", PROBLEMS)
def test_m_never_changes_the_result(name):
    x, ctrs, k, _ = PROBLEMS[name]()
    some = ctrs[:90]  # what is special stands among the first; 1500 blocks would show nothing else
    for centres, numbers in ((some, (1, 7)), (ctrs, (31, 10**9))):
        expected = knn_mc(x, centres, k, len(centres))
        for m in numbers:
            assert torch.equal(knn_mc(x, centres, k, m), expected), m


@pytest.mark.parametrize("name", HARD)
def test_the_memory_never_changes_the_result(name):
    x, ctrs, k, _ = PROBLEMS[name]()
    x, ctrs = x.repeat(-(-600 // len(x)), 1), ctrs.repeat(4, 1)  # too large to be looked at at once
    expected = knn_mc(x, ctrs, k, len(ctrs), max_memory=2**30)
    assert torch.equal(knn_mc(x, ctrs, k, len(ctrs), max_memory=2**20), expected)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_screen_never_changes_the_result(name):
    x, ctrs, k, _ = PROBLEMS[name]()
    x = x[:8]
    expected = searched(x, ctrs, k, screen="none")
    for changes in (
        {"screen": "tree"},
        {"screen": "tree", "workers": 2, "row_block": 3},
        {"screen": "direct"},
        {"screen": "direct", "workers": 2, "row_block": 3, "chunk": 50},
        {"screen": "dense"},
        {"screen": "dense", "workers": 2, "row_block": 3, "pack_bytes": 10**6},
        {"screen": "dense", "panel": 64, "verified_rows": 2},
        *({"screen": "dense", "formats": (name, "float32")} for name in LOW_FORMATS),
        {"screen": "portable"},
        {"screen": "portable", "width": min(k, len(ctrs))},
        {"screen": "portable", "width": len(ctrs)},
        {"screen": "portable", "operand_bits": 8},
        {"screen": "portable", "keep_packed": False, "ctr_block": 13},
        {
            "screen": "portable",
            "row_block": 3,
            "ctr_block": 29,
            "fallback_rows": 2,
            "fallback_ctrs": 5,
            "fallback_pairs": 7,
        },
        {"screen": "none", "fallback_rows": 3, "fallback_ctrs": 17, "fallback_pairs": 1},
    ):
        assert torch.equal(searched(x, ctrs, k, **changes), expected), changes


@pytest.mark.parametrize("name", HARD)
def test_rows_are_independent_of_order_and_company(name):
    x, ctrs, k, _ = PROBLEMS[name]()
    whole = knn_mc(x, ctrs, k, 50)
    shuffle = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    assert torch.equal(knn_mc(x[shuffle], ctrs, k, 50), whole[:, shuffle])
    single = torch.cat([knn_mc(x[i : i + 1], ctrs, k, 50) for i in range(len(x))], dim=1)
    assert torch.equal(single, whole)


@pytest.mark.parametrize("name", HARD)
def test_strides_never_change_the_result(name):
    x, ctrs, k, _ = PROBLEMS[name]()
    expected = knn_mc(x, ctrs, k, 50)
    spread = torch.zeros(len(ctrs), 3 * ctrs.shape[1], dtype=ctrs.dtype)
    spread[:, ::3] = ctrs
    assert torch.equal(knn_mc(x.T.contiguous().T, spread[:, ::3], k, 50), expected)
    assert torch.equal(knn_mc(x[:1].expand(5, -1), ctrs, k, 50), expected[:, :1].expand(-1, 5))


@pytest.mark.parametrize("name", HARD)
def test_the_number_of_threads_never_changes_the_result(name):
    x, ctrs, k, _ = PROBLEMS[name]()
    expected = knn_mc(x, ctrs, k, 50)
    before = torch.get_num_threads()
    try:
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(knn_mc(x, ctrs, k, 50), expected)
    finally:
        torch.set_num_threads(before)


def test_threads_may_search_at_once():
    problems = [gaussian(n=50, n_ctrs=100 + 40 * i) for i in range(6)]
    expected = [knn_mc(x, ctrs, k, 50) for x, ctrs, k, _ in problems]
    got = [None] * len(problems)

    def work(i):
        x, ctrs, k, _ = problems[i]
        got[i] = knn_mc(x, ctrs, k, 50)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(problems))]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_permuting_centres_permutes_indices_where_there_are_no_ties():
    x, ctrs, k, _ = gaussian(torch.float64)
    shuffle = torch.randperm(len(ctrs), generator=torch.Generator().manual_seed(0))
    assert torch.equal(shuffle[knn_mc(x, ctrs[shuffle], k, 50)], knn_mc(x, ctrs, k, 50))
