"""What processes say to each other: a vote before every exchange, and every byte counted.

A process that fails says so in the next vote, and all raise; none is left waiting in a collective that another one
never enters. One that is killed says nothing: the group's timeout ends the others' wait, and they name the stage.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

_MESSAGE = 480  # bytes of another process's error


class DistributedError(RuntimeError):
    """Another process of the group failed, or the group did.

    Attributes:
        stage: What was being done.
        reason: What went wrong.
    """

    def __init__(self, stage: str, reason: str) -> None:
        self.stage, self.reason = stage, reason
        super().__init__(f"{reason}, while {stage}")

    def __reduce__(self) -> tuple[type[DistributedError], tuple[str, str]]:
        """Go from process to process, as pools and schedulers send errors."""
        return type(self), (self.stage, self.reason)


class Group:
    """A process group, as the searches use it.

    Args:
        group: Of torch.distributed; None: all processes.
        device: Where tensors are that are handed to `exchange` and its like.

    Attributes:
        sent: Bytes that this process has sent to others so far.
    """

    def __init__(self, group: dist.ProcessGroup | None, device: torch.device) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "torch.distributed is not initialised: call torch.distributed.init_process_group() first"
            )
        self._group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise ValueError("group must be one that this process belongs to")
        self._wire = _wire(group, device)
        self._device = device
        self.sent = 0

    def together(self, stage: str, work: Callable[[], T]) -> T:
        """Do what each process does for itself, then hear whether it went well everywhere.

        Raises:
            DistributedError: Another process failed. Who failed itself raises what it met.
        """
        result, error = None, None
        try:
            result = work()
        except BaseException as met:
            error = met
        self.vote(stage, error)
        return result  # type: ignore[return-value]

    def vote(self, stage: str, error: BaseException | None = None) -> None:
        """Raise on every process if any has an error."""
        flag = torch.tensor([error is not None], dtype=torch.int32, device=self._wire)

        def ask() -> bool:
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group)
            self.sent += flag.nbytes
            return bool(flag)

        self._raise_if(ask, stage, error)

    def told(
        self, stage: str, n_numbers: int, work: Callable[[], tuple[T, Sequence[int]]]
    ) -> tuple[T, list[list[int]]]:
        """Do what each process does for itself, then hear from all whether it went well, and some numbers.

        Args:
            stage: What is done.
            n_numbers: How many numbers.
            work: Returns a result, and the numbers that the others want to know.

        Returns:
            The result, and the numbers of every process.

        Raises:
            DistributedError: As `together` does.
        """
        result, numbers, error = None, [0] * n_numbers, None
        try:
            result, numbers = work()  # type: ignore[assignment]
        except BaseException as met:
            error = met
        mine = torch.tensor([int(error is not None), *numbers], dtype=torch.int64, device=self._wire)
        table: list[list[int]] = []

        def ask() -> bool:
            table.extend(torch.stack(self._gathered(mine)).tolist())
            return any(row[0] for row in table)

        self._raise_if(ask, stage, error)
        return result, [row[1:] for row in table]  # type: ignore[return-value]

    def _raise_if(self, ask: Callable[[], bool], stage: str, error: BaseException | None) -> None:
        """Ask the others; raise on every process if any has an error, the own one where there is one."""
        try:
            with self._stage(stage):
                if not ask():
                    return
                texts = self._texts("" if error is None else f"{type(error).__name__}: {error}")
        except DistributedError as gone:
            if error is None:
                raise
            raise error from gone  # the others can no longer be told
        if error is not None:
            raise error
        rank = next(rank for rank, text in enumerate(texts) if text)
        raise DistributedError(stage, f"process {rank} of {self.size} failed ({texts[rank]})")

    def _texts(self, text: str) -> list[str]:
        raw = text.encode(errors="replace")[:_MESSAGE]
        mine = torch.tensor(list(raw) + [0] * (_MESSAGE - len(raw)), dtype=torch.uint8, device=self._wire)
        return [bytes(other.tolist()).rstrip(b"\0").decode(errors="replace") for other in self._gathered(mine)]

    def gathered(self, mine: Tensor, stage: str) -> Tensor:
        """Return (size, ...) what every process has, of one shape and dtype."""
        with self._stage(stage):
            return torch.stack(self._gathered(mine.to(self._wire))).to(self._device)

    def _gathered(self, mine: Tensor) -> list[Tensor]:
        out = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(out, mine.contiguous(), group=self._group)
        self.sent += mine.nbytes * (self.size - 1)
        return out

    def rows_gathered(self, mine: Tensor, counts: Sequence[int], stage: str) -> Tensor:
        """Return the rows of all processes, one process's after the other's.

        Args:
            mine: (counts[rank], ...) rows.
            counts: Of every process.
            stage: What for.
        """
        most = max(counts)
        padded = _as_bytes(mine)
        padded = torch.nn.functional.pad(padded, (0, 0, 0, most - len(mine))) if padded.shape[1] else padded
        parts = self.gathered(padded, stage)
        rows = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        return _from_bytes(rows, mine)

    def summed(self, mine: Tensor, stage: str) -> Tensor:
        """Return the sum of every process's tensor."""
        total = mine.to(self._wire, copy=True).contiguous()
        with self._stage(stage):
            dist.all_reduce(total, group=self._group)
        self.sent += 2 * total.nbytes * (self.size - 1) // self.size
        return total.to(self._device)

    def exchange(self, rows: Tensor, give: Sequence[int], take: Sequence[int], stage: str) -> Coming:
        """Begin to send rows to every process: rows for process 0, then for 1, and so on.

        Args:
            rows: (sum(give), ...).
            give: How many rows each process gets.
            take: How many each process sends to this one.
            stage: What for.
        """
        raw = _as_bytes(rows).to(self._wire).contiguous()
        out = torch.empty(sum(take), raw.shape[1], dtype=torch.uint8, device=self._wire)
        self.sent += (sum(give) - give[self.rank]) * raw.shape[1]
        with self._stage(stage):
            work = dist.all_to_all_single(out, raw, list(take), list(give), group=self._group, async_op=True)
        return Coming(self, stage, work, raw, out, rows, self._device)

    @contextlib.contextmanager
    def _stage(self, stage: str) -> Iterator[None]:
        """Name the stage where the group fails: a process is gone, or the others waited too long."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, DistributedError):
                raise
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            reason = f"process {self.rank} of {self.size} lost the others ({first})"
            raise DistributedError(stage, reason) from error


def _wire(group: dist.ProcessGroup | None, device: torch.device) -> torch.device:
    """Return where tensors must be to be sent: NCCL moves what is on a GPU alone, gloo is asked for nothing else."""
    if "nccl" not in str(dist.get_backend_config(group)):
        return torch.device("cpu")
    return device if device.type == "cuda" else torch.device("cuda", torch.cuda.current_device())


class Coming:
    """Rows that are on their way; `wait` returns them."""

    def __init__(
        self,
        group: Group,
        stage: str,
        work: dist.Work | None,
        sent: Tensor,
        out: Tensor,
        like: Tensor,
        device: torch.device,
    ) -> None:
        self._group, self._stage, self._work, self._sent = group, stage, work, sent
        self._out, self._like, self._device = out, like, device

    def wait(self) -> Tensor:
        """Return the rows, one process's after the other's."""
        with self._group._stage(self._stage):
            if self._work is not None:
                self._work.wait()
        return _from_bytes(self._out.to(self._device), self._like)


def _as_bytes(rows: Tensor) -> Tensor:
    """Return rows (n, ...) as (n, bytes) uint8: backends know few dtypes."""
    flat = rows.detach().reshape(len(rows), rows[0].numel() if len(rows) else _width(rows)).contiguous()
    return flat.view(torch.uint8)


def _from_bytes(raw: Tensor, like: Tensor) -> Tensor:
    return raw.contiguous().view(like.dtype).reshape(len(raw), *like.shape[1:])


def _width(rows: Tensor) -> int:
    width = 1
    for size in rows.shape[1:]:
        width *= size
    return width
