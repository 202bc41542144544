"""What all processes must know of each other, and agree on, before they search."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from janelia_core.ml._distributed.asked import Asked
from janelia_core.ml._distributed.group import Group
from janelia_core.ml._knn.data.frame import Frame
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.metrics.registry import METRICS, metric_named

_DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bool,
)
_SAME: dict[str, Sequence[object] | None] = {
    "k": None,
    "metric": list(METRICS),
    "rows": ("replicated", "sharded"),
    "the number of columns": None,
    "the dtype of x": _DTYPES,
    "the dtype of the centres": _DTYPES,
    "whether gradients of x are wanted": (False, True),
    "whether gradients of centres are wanted": (False, True),
}
_N_TOLD = len(_SAME) + 5
_NOTHING = -(2**31)  # the exponent of who has seen nothing
_CHUNK = 1 << 22  # bytes


@dataclass(frozen=True)
class Facts:
    """What each process has.

    Attributes:
        n_rows: Its rows of x.
        n_ctrs: Rows of its shard.
        n_searched: Those of them that are searched.
        memory: Bytes of workspace of who has fewest.
    """

    n_rows: list[int]
    n_ctrs: list[int]
    n_searched: list[int]
    memory: int

    def widths(self, k: int) -> list[int]:
        """Return how many centres each process lists for a row."""
        return [min(k, n) for n in self.n_searched]

    @property
    def offsets(self) -> list[int]:
        """The number, among all centres, of the first one of each process; and how many there are."""
        ends = [0]
        for count in self.n_ctrs:
            ends.append(ends[-1] + count)
        return ends


def agreed(group: Group, check: Callable[[], Asked]) -> tuple[Asked, Facts]:
    """Check the arguments of all processes, and learn what the others have.

    Raises:
        ValueError: They were asked something else.
    """
    asked, table = group.told("checking arguments", _N_TOLD, lambda: _told(check()))
    for column, (name, words) in enumerate(_SAME.items()):
        theirs = [row[column] for row in table]
        if len(set(theirs)) > 1:
            told = [number if words is None else words[number] for number in theirs]
            other = next(i for i, value in enumerate(theirs) if value != theirs[0])
            raise ValueError(
                f"{name} must be the same on all processes, got {told[0]} on process 0 and {told[other]} on {other}"
            )
    digests, n_rows, n_ctrs, n_searched, memory = [list(column) for column in zip(*table, strict=True)][len(_SAME) :]
    if not asked.sharded and len(set(zip(digests, n_rows, strict=True))) > 1:
        raise ValueError(
            'x must be the same on all processes with rows="replicated", and differs; rows="sharded" is for parts of x'
        )
    return asked, Facts(n_rows, n_ctrs, n_searched, min(memory))


def _told(asked: Asked) -> tuple[Asked, list[int]]:
    """Return the arguments, and what the others must know of them."""
    dtypes = [_DTYPES.index(values.dtype) for values in (asked.x, asked.values)]
    wanted = [int(asked.of_x), int(asked.of_ctrs)]
    same = [asked.k, list(METRICS).index(asked.metric), int(asked.sharded), asked.x.shape[1], *dtypes, *wanted]
    digest = 0 if asked.sharded else checksum(asked.x)
    return asked, [*same, digest, len(asked.x), len(asked.values), len(asked.ctrs), asked.memory]


def checksum(x: Tensor) -> int:
    """Return 63 bits that tell tensors apart, by what they hold."""
    digest = hashlib.blake2b(digest_size=8)
    values = x.detach().contiguous().reshape(-1).view(torch.uint8)
    for start in range(0, len(values), _CHUNK):
        digest.update(values[start : start + _CHUNK].cpu().numpy().data)
    return int.from_bytes(digest.digest(), "little") >> 1


@dataclass(frozen=True)
class Common:
    """What order values have in common on all processes.

    Attributes:
        metric: What orders.
        in_float64: float64 holds all stored values, and their squares.
    """

    metric: Metric
    in_float64: bool


N_SEEN = 3
"""How many numbers tell what a process has seen."""


def seen(frame: Frame | None) -> list[int]:
    """Return what others must know of rows and centres of this process; None: there are none."""
    return [1, 1, _NOTHING] if frame is None else [int(frame.exact), int(frame.in_float64), frame.verify_exponent]


def common(name: str, table: list[list[int]]) -> Common:
    """Return what holds for the rows and the centres of all processes, of what each has seen."""
    exact, in_float64 = (all(row[column] for row in table) for column in (0, 1))
    exponent = max(row[2] for row in table)
    exponent = 0 if exponent == _NOTHING else exponent
    return Common(metric_named(name, exponent, exact), in_float64 and exponent == 0)
