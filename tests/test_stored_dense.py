"""Packed centres go into arrays and facts, and come back: the same bytes are answered, or it is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import DENSE, make_plan
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.meet import key_of
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.screens.dense import stored
from janelia_core.ml._knn.screens.dense.centres import DenseCentres
from janelia_core.ml._knn.screens.dense.prepared import PreparedDense
from janelia_core.ml._knn.screens.dense.scan import scan
from janelia_core.ml._knn.screens.keeping import UnsuitedError
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.machine import this_machine
from plans import changed
from problems import gaussian

CPU = this_machine(torch.device("cpu"))
Arrays = dict[str, np.ndarray[Any, Any]]
Stored = tuple[Arrays, dict[str, Any]]


def dense_plan(ctrs: Tensor, k: int, metric: str = "euclidean") -> Plan:
    plan = make_plan(500, *ctrs.shape, k, len(ctrs), machine=CPU, metric=metric)
    return changed(plan, screen="dense", at_once_rows=0, pack_bytes=1 << 26)


def key(plan: Plan) -> Any:
    return key_of(DENSE, Place(torch.zeros(0), 0), plan)


def clustered() -> Tensor:
    """Centres nearer to one another than int8 can tell, so that rows climb; some twice, some NaN."""
    ctrs = gaussian(n=2, n_ctrs=1500, d=12).ctrs
    ctrs[:700] = ctrs[:1] + 1e-3 * ctrs[:700]
    ctrs = torch.cat([ctrs, ctrs[:9].repeat_interleave(40, 0)])
    ctrs[7::300, 2] = torch.nan
    return ctrs


def lattice() -> Tensor:
    return (gaussian(n=2, n_ctrs=900, d=7).ctrs * 3).round()


def packed(ctrs: Tensor, metric: str = "euclidean", ks: tuple[int, ...] = (5,)) -> Centres:
    centres = Centres(Points(ctrs))
    for k in ks:
        search(Points(rows(ctrs)), centres, dense_plan(ctrs, k, metric))
    return centres


def rows(ctrs: Tensor) -> Tensor:
    return torch.nan_to_num(ctrs[:500] + 1e-4)


def through_files(found: Stored, folder: Path) -> Stored:
    """Write arrays and facts, and map them read-only."""
    for name, array in found[0].items():
        np.save(folder / f"{name}.npy", array)
    maps = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in found[0]}
    return maps, json.loads(json.dumps(found[1], allow_nan=False))


@pytest.mark.parametrize("metric", ["euclidean", "dot", "cosine"])
@pytest.mark.parametrize("make", [clustered, lattice])
def test_read_only_maps_answer_the_same_bytes_without_packing_or_compiling(
    make: Callable[[], Tensor], metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctrs, ks = make(), (5, 20)
    kept, fresh = packed(ctrs, metric, ks), Centres(Points(ctrs))
    plans = [dense_plan(ctrs, k, metric) for k in ks]
    prepared: PreparedDense = kept.made(key(plans[0]), lambda: None)  # type: ignore[assignment, arg-type, return-value]
    maps = through_files(stored.arrays_of(prepared), tmp_path)
    again = fresh.made(key(plans[0]), lambda: stored.from_arrays(Points(ctrs), *maps))
    assert again.nbytes == sum(one.nbytes for one in prepared.whole) > 0
    compiled = list(scan.signatures)  # type: ignore[attr-defined]
    monkeypatch.setattr(DenseCentres, "_all_packed", lambda *_: pytest.fail("packed anew"))
    with watch_knn() as reports:
        for plan in plans:
            assert torch.equal(*(search(Points(rows(ctrs)), one, plan) for one in (kept, fresh)))
    assert all(report.plan.screen == "dense" for report in reports)
    assert list(scan.signatures) == compiled  # type: ignore[attr-defined]


def test_what_is_not_packed_whole_is_left_out() -> None:
    ctrs = clustered()
    centres, plan = Centres(Points(ctrs)), changed(dense_plan(ctrs, 5), pack_bytes=0)
    search(Points(rows(ctrs)), centres, plan)
    prepared: PreparedDense = centres.made(key(plan), lambda: None)  # type: ignore[assignment, arg-type, return-value]
    assert prepared.nbytes > 0
    assert stored.arrays_of(prepared)[0] == {}


def without(name: str) -> Callable[[Arrays, dict[str, Any]], None]:
    def wrong(arrays: Arrays, facts: dict[str, Any]) -> None:
        del arrays[name]

    return wrong


def with_array(name: str, change: Callable[[Any], Any]) -> Callable[[Arrays, dict[str, Any]], None]:
    def wrong(arrays: Arrays, facts: dict[str, Any]) -> None:
        arrays[name] = change(arrays[name].copy())

    return wrong


def with_item(name: str, place: Any, value: float) -> Callable[[Arrays, dict[str, Any]], None]:
    def change(array: Any) -> Any:
        array[place] = value
        return array

    return with_array(name, change)


def with_fact(value: Any, *path: Any) -> Callable[[Arrays, dict[str, Any]], None]:
    def wrong(arrays: Arrays, facts: dict[str, Any]) -> None:
        at: Any = facts
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value

    return wrong


def out_of_line(words: Any) -> Any:
    """The same words, from an odd address on."""
    return np.frombuffer(b"0" + words.tobytes(), np.uint8)[1:].view(np.uint32).reshape(words.shape)


WRONG = {
    **{f"no {name}": without(f"0.{name}") for name in ("words", "errs", "parameters", "shift", "subset")},
    "words of half the size": with_array("0.words", lambda words: words[..., ::2].copy()),
    "words that do not lie in a row": with_array("0.words", lambda words: np.asfortranarray(words)),
    "words out of line": with_array("0.words", out_of_line),
    "words of another type": with_array("0.words", lambda words: words.view(np.float32)),
    "a lack of panels": with_array("0.words", lambda words: words[1:].copy()),
    "an error that is no number": with_item("0.errs", (3, 0), np.nan),
    "a negative error": with_item("0.errs", (3, 1), -1.0),
    "a step of 0": with_item("0.parameters", (0, 0, 5), 0.0),
    "a reach that is no number": with_item("0.parameters", (0, 1, 5), np.nan),
    "a centre where there is none": with_item("0.parameters", (-1, 2, -1), 0.0),
    "a centre that is out of reach": with_item("0.parameters", (0, 2, 5), -np.inf),
    "a shift that is no number": with_item("0.shift", 0, np.inf),
    "sifted numbers beyond all centres": with_item("0.subset", -1, 10**6),
    "sifted numbers twice": with_item("0.subset", 1, 0),
    "another layout": with_fact(2, "layout"),
    "another machine": with_fact({"tile": 8}, "machine"),
    "another metric": with_fact("none", "metric"),
    "no packings": with_fact(None, "packings"),
    "no facts of a packing": with_fact(None, "packings", 0),
    "no frame": with_fact([], "packings", 0, "frame"),
    "another format": with_fact("int4", "packings", 0, "format"),
    "more centres than there are": with_fact(10**6, "packings", 0, "n"),
    "centres that were not sifted": with_fact(False, "packings", 0, "sifted"),
    "a scale that is no power of two": with_fact(3.0, "packings", 0, "frame", "scale"),
    "a scale that is no number": with_fact("1", "packings", 0, "frame", "scale"),
    "a truth that is a number": with_fact(1, "packings", 0, "frame", "whole"),
    "a unit of 0": with_fact(0.0, "packings", 0, "unit"),
    "rows of other coordinates": with_fact(3, "packings", 0, "asked", "d"),
    "rows that are asked for nothing": with_fact(None, "packings", 0, "asked"),
    "another widest step": with_fact(0.5, "packings", 0, "asked", "widest"),
}


@pytest.fixture(scope="module")
def right() -> tuple[Points, Stored]:
    ctrs = clustered()
    centres = packed(ctrs)
    prepared: PreparedDense = centres.made(key(dense_plan(ctrs, 5)), lambda: None)  # type: ignore[assignment, arg-type, return-value]
    return Points(ctrs), stored.arrays_of(prepared)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_of_itself_is_an_error(wrong: str, right: tuple[Points, Stored]) -> None:
    points, (arrays, facts) = right
    assert stored.from_arrays(points, arrays, facts).nbytes > 0
    arrays, facts = dict(arrays), json.loads(json.dumps(facts))
    WRONG[wrong](arrays, facts)
    unsuited = wrong in ("another layout", "another machine", "another format")
    with pytest.raises(ValueError, match=r"layout|machine" if unsuited else "cannot be used") as error:
        stored.from_arrays(points, arrays, facts)
    assert isinstance(error.value, UnsuitedError) == unsuited  # then these are packed anew, else the file is damaged


def test_centres_of_another_shape_are_an_error(right: tuple[Points, Stored]) -> None:
    points, (arrays, facts) = right
    for other in (points.values[:100], points.values[:, :5].contiguous()):
        with pytest.raises(ValueError, match="stored packed centres cannot be used"):
            stored.from_arrays(Points(other), arrays, facts)
