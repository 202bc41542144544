"""The least of a group of FAN values, wherever that is in the group: no comparison is a branch."""

from __future__ import annotations

from functools import partial

from janelia_core.ml._simd.emit import Builder, Value, i1, i32, lanes
from janelia_core.ml._simd.intrinsics import Array, Int64, Item, intrinsic

FAN = 16


@intrinsic
def smallest(build: Builder, values: Array, start: Int64) -> Item:
    """The smallest of values[start : start + FAN], none of them NaN."""
    return _least(build, build.load(values.at(start), FAN))


@intrinsic
def place(build: Builder, values: Array, start: Int64) -> Int64:
    """Which of values[start : start + FAN] is the smallest, the first of equals; none of them NaN."""
    group = build.load(values.at(start), FAN)
    return build.cttz(build.bits_of(build.fcmp_ordered("==", group, build.splat(_least(build, group), FAN))), i1(1))


@intrinsic
def replace(build: Builder, values: Array, start: Int64, lane: Int64, value: Item) -> Item:
    """Writes values[start + lane] = value, and returns the smallest of the group then.

    The group is stored whole: to read it next, a CPU would wait for a shorter store.
    """
    address = values.at(start)
    here = build.icmp_signed("==", lanes(range(FAN)), build.splat(build.trunc(lane, i32), FAN))
    group = build.select(here, build.splat(value, FAN), build.load(address, FAN))
    build.store(group, address)
    return _least(build, group)


def _least(build: Builder, group: Value) -> Value:
    return build.reduce(group, partial(build.choose, "<"))
