"""Types of arrays that kernels take, by the kind and the bits of their numbers; `Reals` for those that take several."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
B8 = NDArray[np.bool_]
Reals = NDArray[Any]
"""Of any real dtype: compiled once for each that comes."""
