"""Packed centres as arrays and facts that a file can hold, and back; arrays may be maps of a file, read-only or not.

Whoever stores them binds them to their centres. What is wrong of itself is an error here, and never reaches a kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.screens.dense.centres import DenseCentres, Packed
from janelia_core.ml._knn.screens.dense.formats import FORMATS, INT8, PANEL, Format
from janelia_core.ml._knn.screens.dense.frame import DenseFrame
from janelia_core.ml._knn.screens.dense.prepared import PreparedDense
from janelia_core.ml._knn.screens.dense.row_bounds import RowConstants
from janelia_core.ml._knn.screens.keeping import UnsuitedError
from janelia_core.ml._simd.dot_tiles import PARAMETERS, TILE, compiles

Array = npt.NDArray[Any]
LAYOUT = 1
"""Of arrays and facts; another number for each that differs."""
_MACHINE = {"tile": TILE, "parameters": PARAMETERS, "panel": PANEL, "bytes": sys.byteorder}
_LARGEST = 2.0**100  # of any number of a frame or a bound: far beyond what centres give


def arrays_of(prepared: PreparedDense) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return all that was packed whole, as arrays by name and what JSON can hold of the rest."""
    arrays: dict[str, Array] = {}
    packings = []
    for number, centres in enumerate(prepared.whole):
        packed, subset = centres.packed, centres.ctrs.subset
        held = {"words": packed.words, "errs": packed.errs, "parameters": packed.parameters}
        held["shift"] = packed.frame.shift.numpy()
        if subset is not None:
            held["subset"] = subset.numpy()
        arrays |= {f"{number}.{name}": array for name, array in held.items()}
        frame = {field.name: getattr(packed.frame, field.name) for field in fields(DenseFrame) if field.name != "shift"}
        packings.append(
            {
                "format": centres.format.name,
                "n": centres.n_ctrs,
                "sifted": subset is not None,
                "frame": frame,
                "unit": packed.unit,
                "asked": packed.asked._asdict(),
            }
        )
    return arrays, {"layout": LAYOUT, "machine": dict(_MACHINE), "metric": prepared.metric, "packings": packings}


def from_arrays(points: Points, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> PreparedDense:
    """Return what `arrays_of` took apart.

    Args:
        points: The centres, all of them.
        arrays: As they were; held, and never written.
        facts: As they were.

    Raises:
        UnsuitedError: Another version or kind of machine made them.
        ValueError: These are not what this version and this machine would have made of centres of this shape.
    """
    if _value(facts, "layout", "int") != LAYOUT:
        raise UnsuitedError(f"packed centres have layout {facts['layout']}; this version reads {LAYOUT}")
    if facts.get("machine") != _MACHINE:
        raise UnsuitedError(f"words were laid out for another machine: {facts.get('machine')}, here {_MACHINE}")
    metric, packings = facts.get("metric"), facts.get("packings")
    if not isinstance(metric, str) or not isinstance(packings, list):
        _refuse("no metric, or no packings")
    try:
        metric_named(metric)
    except (KeyError, ValueError):
        _refuse(f"unknown metric {metric!r}")
    return PreparedDense(metric, [_packing(points, arrays, of, metric, i) for i, of in enumerate(packings)])


def _packing(points: Points, arrays: Mapping[str, Array], facts: Any, metric: str, number: int) -> DenseCentres:
    if not isinstance(facts, Mapping) or not isinstance(facts.get("frame"), Mapping):
        _refuse(f"packing {number} has no facts")
    chosen, n, d = FORMATS.get(str(facts.get("format"))), _value(facts, "n", "int"), points.d
    if chosen is None or not compiles(chosen.name):
        raise UnsuitedError(f"this machine has no format {facts.get('format')}")
    if not (1 <= n <= len(points) and d >= 1):
        _refuse(f"{n} of {len(points)} centres are packed")

    def array(name: str, dtype: type, *shape: int) -> Array:
        return _checked(arrays.get(f"{number}.{name}"), f"{number}.{name}", np.dtype(dtype), shape)

    if _value(facts, "sifted", "bool"):
        subset = torch.from_numpy(array("subset", np.int64, n))
        if subset[0] < 0 or subset[-1] >= len(points.values) or not bool((subset[1:] > subset[:-1]).all()):
            _refuse("numbers of sifted centres do not ascend")
        points = Points(points.values, subset, points.chunk)
    elif n != len(points):
        _refuse(f"{n} centres are packed where there are {len(points)}")
    frame = _frame(facts["frame"], array("shift", np.float64, d))
    n_panels = -(-n // PANEL)
    packed = Packed(
        frame=frame,
        unit=_value(facts, "unit", "float", above=0.0, most=1.0),
        asked=_asked(facts.get("asked"), d, chosen),
        words=array("words", np.uint32, n_panels, PANEL, chosen.n_words(d)),
        errs=array("errs", np.float32, n_panels * PANEL, 2),
        parameters=array("parameters", np.float32, n_panels * PANEL // TILE, PARAMETERS, TILE),
    )
    centres = DenseCentres(points, chosen, metric, packed=packed)
    _check_numbers(centres)
    return centres


def _frame(facts: Mapping[str, Any], shift: Array) -> DenseFrame:
    scale = _value(facts, "scale", "float", above=0.0, most=2.0**1023)
    if np.frexp(scale)[0] != 0.5 or not np.isfinite(shift).all():
        _refuse("a frame's scale is no power of two, or its shift no number")
    return DenseFrame(
        shift=torch.from_numpy(shift),
        scale=scale,
        whole=_value(facts, "whole", "bool"),
        relative_error=_value(facts, "relative_error", "float", most=1.0),
        directed=_value(facts, "directed", "bool"),
        may_be_exact=_value(facts, "may_be_exact", "bool"),
    )


def _asked(facts: Any, d: int, chosen: Format) -> RowConstants:
    if not isinstance(facts, Mapping):
        _refuse("nothing says what centres ask of rows")
    asked = RowConstants(
        d=_value(facts, "d", "int"),
        relative_error=_value(facts, "relative_error", "float", most=1.0),
        whole=_value(facts, "whole", "bool"),
        largest=_value(facts, "largest", "float"),
        unit=_value(facts, "unit", "float", above=0.0, most=1.0),
        lacking=_value(facts, "lacking", "float"),
        widest=_value(facts, "widest", "float"),
        int8=_value(facts, "int8", "bool"),
    )
    if (asked.d, asked.int8) != (d, chosen is INT8):
        _refuse(f"centres of {asked.d} coordinates are packed, {d} are given, or their format is another")
    return asked


def _check_numbers(centres: DenseCentres) -> None:
    """Places without a centre must be out of reach: a kernel would list them, and name a centre that there is not."""
    packed, n_panels, stride = centres.packed, centres.n_panels, centres.stride
    place = np.arange(n_panels * PANEL)
    position = place % PANEL * stride + place // PANEL if stride else place
    beta, reach, level = (packed.parameters[:, part].reshape(-1) for part in range(PARAMETERS))
    there = position < centres.n_ctrs
    good = np.where(there, np.isfinite(level), level == -np.inf) & (beta > 0) & (beta < _LARGEST)
    good &= (reach >= 0) & (reach < _LARGEST)
    errs = packed.errs
    if not (good.all() and bool(((errs >= 0) & (errs < _LARGEST)).all())):
        _refuse("parameters of packed centres are out of range")
    if packed.asked.widest != float(beta.max()) or packed.unit != packed.asked.unit:
        _refuse("what centres ask of rows is not what was packed")


def _value(facts: Mapping[str, Any], name: str, kind: str, above: float = -1.0, most: float = _LARGEST) -> Any:
    value: Any = facts.get(name)
    number = isinstance(value, (int, float) if kind == "float" else int) and not isinstance(value, bool)
    right = isinstance(value, bool) if kind == "bool" else number and value >= 0 and above < value <= most
    if not right:
        _refuse(f"{name} is {value!r}")
    return float(value) if kind == "float" else value


def _checked(array: Any, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "missing"
        _refuse(f"array {name} should be {dtype} {shape}, and is {found}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        _refuse(f"array {name} does not lie in memory as kernels read it")
    return np.asarray(_AsWritable(array))


class _AsWritable:
    """The same memory as an array that may be written, which it is not: for others kernels would be compiled anew."""

    def __init__(self, array: Array) -> None:
        self._array = array  # kept alive by whoever is made of this
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def _refuse(why: str) -> NoReturn:
    raise ValueError(f"stored packed centres cannot be used: {why}")
