"""Where kernels that answer row by row put what they find."""

from __future__ import annotations

from typing import NamedTuple

from janelia_core.ml._runtime.arrays import I64


class Output(NamedTuple):
    """Where answers go.

    Attributes:
        memory: Of (k, n_smps), written in columns without doubt, nearest first.
        strides: Its strides.
        columns: (r,) where in it the answers of the rows go.
        own: (r,) what the rows are called among centres: left out, and k - 1 are written; empty: none is.
    """

    memory: I64
    strides: tuple[int, int]
    columns: I64
    own: I64
