"""Bits of many bytes at once: of a row of them, or of eight that lie behind each other at a distance."""

from __future__ import annotations

from janelia_core.ml._simd.dot_tiles import TILE
from janelia_core.ml._simd.emit import Builder, Value, constant, i8, i64, vector
from janelia_core.ml._simd.intrinsics import Array, Int64, Uint64, intrinsic

COLUMNS = 64
"""Bytes that `octets` takes at once."""


@intrinsic
def nonzero(build: Builder, items: Array, start: Int64) -> Uint64:
    """A mask whose bit q tells whether the byte items[start + q] is not 0, for the TILE bytes from `start` on."""
    return build.bits_of(_is_set(build, items.at(start), TILE))


@intrinsic
def octets(build: Builder, items: Array, start: Int64, step: Int64, out: Array, place: Int64) -> None:
    """Write COLUMNS bytes to out[place:]: bit b of number p tells whether items[start + p + b * step] is not 0.

    Args:
        build: The builder.
        items: Bytes, of which all that are named above are there.
        start: See above.
        step: See above.
        out: Bytes, written.
        place: See above.
    """
    bits, some = constant(vector(i8, COLUMNS), 0), vector(i8, COLUMNS)
    for b in range(7, -1, -1):
        here = items.at(build.add(start, build.mul(step, i64(b))))
        bits = build.add(build.add(bits, bits), build.zext(_is_set(build, here, COLUMNS), some))
    build.store(bits, out.at(place))


def _is_set(build: Builder, address: Value, n: int) -> Value:
    """Emit which of the n bytes from an address on are not 0."""
    return build.icmp_unsigned("!=", build.load(address, n), constant(vector(i8, n), 0))
