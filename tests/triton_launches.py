"""What a search by the Triton screen launches on a GPU that is not here: recorded, to be compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from janelia_core.ml._knn.data.mask import Mask, Table
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.screens.rerank import found
from janelia_core.ml._knn.screens.triton import cost, launches
from janelia_core.ml._knn.screens.triton.cost import Settings
from janelia_core.ml._knn.screens.triton.screen import PreparedTriton, TritonMeeting
from janelia_core.ml._runtime.gpu import Gpu
from janelia_core.ml._runtime.machine import Machine

OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion", "maxnreg")


class Launch(NamedTuple):
    """A kernel with the types of its arguments, its constants and its options, as `triton_compile.compiled` wants them.

    Numbers that are 1 are constants, and those that 16 divides are known to be so, as Triton does it at a launch.
    """

    kernel: Any
    arguments: dict[str, object]
    constants: dict[str, object]
    options: dict[str, object]

    @property
    def name(self) -> str:
        return str(self.kernel.__name__)

    @property
    def key(self) -> str:
        """What is compiled once."""
        types = {name: of.dtype if isinstance(of, Tensor) else of for name, of in self.arguments.items()}
        return repr((self.name, types, self.constants, self.options))


class _Recorder:
    def __init__(self, kernel: Any, launched: list[Launch]) -> None:
        self._kernel, self._launched = kernel, launched

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return self._note

    def _note(self, *values: Any, **named: Any) -> None:
        options = {name: named.pop(name) for name in OPTIONS if name in named}
        given = dict(zip(self._kernel.arg_names, values, strict=False)) | named
        arguments: dict[str, object] = {}
        constants: dict[str, object] = {}
        for of in self._kernel.params:
            value = given[of.name]
            if of.is_constexpr or (type(value) is int and value == 1 and not of.do_not_specialize):
                constants[of.name] = value
            elif type(value) is int:
                arguments[of.name] = "i32:16" if value % 16 == 0 and not of.do_not_specialize else "i32"
            elif hasattr(value, "block_shape"):
                arguments[of.name] = f"tensordesc<fp16{list(value.block_shape)}>"
            else:
                arguments[of.name] = value
        self._launched.append(Launch(self._kernel, arguments, constants, options))


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Launch no kernel of the screen inside the block, and list what would have been launched."""
    launched: list[Launch] = []
    kernels = [
        (room, name) for room in (launches, found) for name in dir(room) if hasattr(getattr(room, name), "arg_names")
    ]
    patches = [patch.object(room, name, _Recorder(getattr(room, name), launched)) for room, name in kernels]
    for one in patches:
        one.start()
    try:
        yield launched
    finally:
        for one in patches:
            one.stop()


def settings_for(chip: int, n: int, n_ctrs: int, d: int, k: int, metric: str, masked: bool) -> Settings:
    """Return how a search goes on a chip of the size of an H100."""
    gpu = Gpu(chip, descriptors=chip >= 90)
    return cost._settings(Problem(n, n_ctrs, d, k, n_ctrs, Machine(gpu=gpu), False, 1 << 34, metric, masked), gpu)


def launches_of(
    chip: int,
    n: int,
    n_ctrs: int,
    d: int,
    k: int,
    metric: str = "euclidean",
    dtype: torch.dtype = torch.float32,
    masked: bool = False,
) -> list[Launch]:
    """Return what a search of these sizes launches, and a second one of rows whose lists were full."""
    settings = settings_for(chip, n, n_ctrs, d, k, metric, masked)
    x, ctrs = torch.zeros(8, d, dtype=dtype), Points(torch.zeros(2000, d, dtype=dtype))
    numbers = torch.arange(len(x))
    mask = Mask(Table(torch.ones(len(x), len(ctrs), dtype=torch.bool)), ctrs) if masked else None
    with recorded() as launched:
        prepared = PreparedTriton(ctrs, metric_named(metric).form, settings)
        assert prepared.packed is not None
        asked: Any = SimpleNamespace(x=Points(x), mask=mask, report=None, plan=SimpleNamespace(own=settings, k=k))
        meeting = TritonMeeting(prepared, prepared.packed, asked)
        meeting._searched(x, numbers, settings, None)
        meeting._searched(x, numbers, cost.again(settings), torch.zeros(len(x)))
    return launched
