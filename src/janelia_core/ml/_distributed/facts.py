"""What all processes must know of each other, and agree on, before they search."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
_NOTHING = -(2**31)  # the exponent of who has seen nothing
_CHUNK = 1 << 22  # bytes


@dataclass(frozen=True)
class Facts:
    """What each process has.

    Attributes:
        n_rows: Its rows of x.
        n_ctrs: Rows of its shard.
        n_searched: Those of them that are searched.
    """

    n_rows: list[int]
    n_ctrs: list[int]
    n_searched: list[int]

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


def agreed(group: Group, x: Tensor, ctrs: Tensor, n_searched: int, k: int, metric: str, sharded: bool) -> Facts:
    """Learn what the others have.

    Raises:
        ValueError: They were asked something else.
    """
    same: dict[str, Sequence[object] | None] = {
        "k": None,
        "metric": list(METRICS),
        "rows": ("replicated", "sharded"),
        "the number of columns": None,
        "the dtype of x": _DTYPES,
        "the dtype of the centres": _DTYPES,
        "whether gradients of x are wanted": (False, True),
        "whether gradients of centres are wanted": (False, True),
    }
    wanted = [torch.is_grad_enabled() and values.requires_grad for values in (x, ctrs)]
    dtypes = [_DTYPES.index(values.dtype) for values in (x, ctrs)]
    numbers = [k, list(METRICS).index(metric), int(sharded), x.shape[1], *dtypes, *map(int, wanted)]
    digest = 0 if sharded else checksum(x)
    mine = torch.tensor([*numbers, digest, len(x), len(ctrs), n_searched], dtype=torch.int64)
    table = group.gathered(mine, "telling each other what they have").tolist()
    for column, (name, words) in enumerate(same.items()):
        theirs = [row[column] for row in table]
        if len(set(theirs)) > 1:
            told = [number if words is None else words[number] for number in theirs]
            other = next(i for i, value in enumerate(theirs) if value != theirs[0])
            raise ValueError(
                f"{name} must be the same on all processes, got {told[0]} on process 0 and {told[other]} on {other}"
            )
    at = len(same)
    if not sharded and len({(row[at], row[at + 1]) for row in table}) > 1:
        raise ValueError(
            'x must be the same on all processes with rows="replicated", and differs; rows="sharded" is for parts of x'
        )
    return Facts(*([row[at + more] for row in table] for more in (1, 2, 3)))


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


def common(group: Group, name: str, frame: Frame | None) -> Common:
    """Return what holds for the rows and the centres of all processes."""
    mine = [1, 1, _NOTHING] if frame is None else [int(frame.exact), int(frame.in_float64), frame.verify_exponent]
    table = group.gathered(torch.tensor(mine, dtype=torch.int64), "telling each other how large their centres are")
    exact, in_float64 = (bool(column.all()) for column in table[:, :2].T)
    exponent = int(table[:, 2].max())
    exponent = 0 if exponent == _NOTHING else exponent
    return Common(metric_named(name, exponent, exact), in_float64 and exponent == 0)
