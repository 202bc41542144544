"""A box tree that was written out and read back is searched to the same bytes; what is no such tree is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.screens.tree.answer import answer_rows
from janelia_core.ml._knn.screens.tree.few import FewRows
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._knn.screens.tree.screen import TreeScreen
from janelia_core.ml._knn.screens.tree.stored import arrays_of, from_arrays
from plans import rows_of
from problems import gaussian

Arrays = dict[str, np.ndarray]


def copies() -> Tensor:
    problem = gaussian(n_ctrs=400, d=3)
    shuffled = torch.randperm(1100, generator=torch.Generator().manual_seed(0))
    return torch.cat([problem.ctrs, problem.ctrs[:2].repeat(350, 1)])[shuffled]


KINDS = {
    "gaussian": lambda: gaussian(n_ctrs=1000, d=3).ctrs,
    "one leaf": lambda: gaussian(n_ctrs=7, d=2).ctrs,
    "full leaves": lambda: gaussian(n_ctrs=64, d=5).ctrs,
    "copies": copies,
    "all equal": lambda: torch.full((500, 2), 0.1),
    "a pile that ends in a part of a leaf": lambda: torch.full((505, 2), 0.1),
    "float64": lambda: gaussian(n_ctrs=500, d=3, dtype=torch.float64).ctrs,
}


def mapped(tree: BoxTree, folder: Path) -> tuple[Arrays, dict[str, Any]]:
    """Write a tree to files and return it from there, read-only."""
    arrays, facts = arrays_of(tree)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in arrays}, json.loads(json.dumps(facts))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_that_is_mapped_from_a_file_is_searched_to_the_same_bytes(kind: str, tmp_path: Path) -> None:
    ctrs = KINDS[kind]()
    tree = BoxTree(Points(ctrs), min(5, len(ctrs)))
    back = from_arrays(Points(ctrs), *mapped(tree, tmp_path))
    assert (back.live, back.stored, back.residual, back.nbytes) == (tree.live, tree.stored, tree.residual, tree.nbytes)
    rows = rows_of(torch.cat([ctrs[:9], ctrs[:20] * 1.01]))
    found = [TreeScreen(one, min(5, len(ctrs)), rows.values).candidates(rows) for one in (tree, back)]
    assert torch.equal(found[0].indices, found[1].indices)
    assert torch.equal(found[0].excluded, found[1].excluded)
    few = [FewRows.of(one) for one in (tree, back)]
    if tree.stored:
        answers = [one.nearest(rows.values.numpy(), min(5, len(ctrs)), True) for one in few if one]
        assert [part.tobytes() for part in answers[0]] == [part.tobytes() for part in answers[1]]


def test_read_only_arrays_want_no_kernel_of_their_own(tmp_path: Path) -> None:
    ctrs = gaussian(n_ctrs=1000, d=3).ctrs
    tree = BoxTree(Points(ctrs), 5)
    out = torch.empty(5, 20, dtype=torch.int64)
    screens = [TreeScreen(one, 5, ctrs[:20]) for one in (tree, from_arrays(Points(ctrs), *mapped(tree, tmp_path)))]
    compiled = []
    for screen in screens:
        screen.answer(ctrs[:20], torch.arange(20), out)
        compiled.append(len(answer_rows.signatures))
    assert compiled[0] == compiled[1]


def test_what_is_mapped_is_not_copied(tmp_path: Path) -> None:
    ctrs = gaussian(n_ctrs=1000, d=3).ctrs
    arrays, facts = mapped(BoxTree(Points(ctrs), 5), tmp_path)
    boxes = from_arrays(Points(ctrs), arrays, facts).boxes
    assert all(getattr(boxes, name).ctypes.data == array.ctypes.data for name, array in arrays.items())


def stored(kind: str) -> tuple[Points, Arrays, dict[str, Any]]:
    ctrs = KINDS[kind]()
    arrays, facts = arrays_of(BoxTree(Points(ctrs), 5))
    return Points(ctrs), {name: array.copy() for name, array in arrays.items()}, dict(facts)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layout", 2),
        ("layout", True),
        ("n", 999),
        ("d", 4),
        ("k", 0),
        ("k", 5.0),
        ("residual", -1.0),
        ("residual", float("nan")),
        ("residual", 1.0),
        ("stored", False),
        ("stored", None),
    ],
)
def test_other_facts_are_refused(name: str, value: object) -> None:
    ctrs, arrays, facts = stored("gaussian")
    with pytest.raises(ValueError, match="the stored tree"):
        from_arrays(ctrs, arrays, facts | {name: value})
    del facts[name]
    with pytest.raises(ValueError, match="lacks"):
        from_arrays(ctrs, arrays, facts)


@pytest.mark.parametrize("name", ["z", "ids", "boxes", "first", "span", "axis", "at", "lowest"])
def test_other_shapes_and_types_are_refused(name: str) -> None:
    ctrs, arrays, facts = stored("gaussian")
    for other in (arrays[name][:-1], arrays[name].astype(np.float64), arrays[name][:, None], arrays[name][::-1]):
        with pytest.raises(ValueError, match="contiguous"):
            from_arrays(ctrs, arrays | {name: other}, facts)
    del arrays[name]
    with pytest.raises(ValueError, match="contiguous"):
        from_arrays(ctrs, arrays, facts)


def answered(tree: BoxTree, x: Tensor) -> tuple[Tensor, list[int]]:
    """Return the five nearest (5, n), and the rows of which they are anything."""
    out = torch.zeros(5, len(x), dtype=torch.int64)
    return out, TreeScreen(tree, 5).answer(x, torch.arange(len(x)), out).tolist()


@pytest.mark.parametrize("kind", ["gaussian", "copies", "full leaves"])
@pytest.mark.parametrize("name", ["ids", "first", "span", "axis", "lowest"])
def test_any_number_changed_is_refused_or_of_no_consequence(name: str, kind: str) -> None:
    """A bit of a random number each: positions, and what leads to them."""
    ctrs, arrays, facts = stored(kind)
    g = np.random.default_rng(0)
    expected, left = answered(from_arrays(ctrs, arrays, facts), ctrs.values[:40])
    assert left == []
    for _ in range(150):
        at, bit = int(g.integers(len(arrays[name]))), np.int32(1) << np.int32(g.integers(31))
        arrays[name][at] ^= bit
        try:
            tree = from_arrays(ctrs, arrays, facts)
        except ValueError:
            pass
        else:
            found, left = answered(tree, ctrs.values[:40])
            decided = [i for i in range(40) if i not in left]
            assert torch.equal(found[:, decided], expected[:, decided])
        arrays[name][at] ^= bit


def test_two_centres_at_one_place_and_points_beyond_the_last_are_refused() -> None:
    ctrs, arrays, facts = stored("gaussian")
    twice = arrays["ids"].copy()
    twice[3] = twice[4]
    with pytest.raises(ValueError, match="lacks centres"):
        from_arrays(ctrs, arrays | {"ids": twice}, facts)
    arrays["z"][-1 - 16 * np.arange(3)] = 0.5  # the last lane of the last leaf, where there is no centre
    with pytest.raises(ValueError, match="lacks centres"):
        from_arrays(ctrs, arrays, facts)


def test_a_tree_over_other_centres_is_refused() -> None:
    ctrs, arrays, facts = stored("gaussian")
    with pytest.raises(ValueError, match="other centres"):
        from_arrays(Points(ctrs.values + 0.25), arrays, facts)
    with pytest.raises(ValueError, match="other centres"):
        from_arrays(Points(ctrs.values.double() + 1e-12), arrays, facts)
