"""An accelerator made of a CPU: it computes right, and tells what a device would have to wait for.

Tensors on it are wrappers around tensors of the CPU. Every operation on them is noted (`Seen`): how many a device would
have to launch, where in the package the host waits for it, which threads called, and which dtypes were made. What a
real device refuses, this one does, too: points on two devices, dtypes that were forbidden, and, beside
`torch.use_deterministic_algorithms(True)`, what CUDA has no deterministic kernel for.

Rests on private functions of torch: `AVAILABLE` tells whether they are there.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.utils import _pytree, backend_registration

_SETUP = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
AVAILABLE = _SETUP is not None
DEVICE = "privateuseone:0"
_ATEN = torch.ops.aten

_WAITS = {  # what the host has to know before it can go on: a value, or a size
    "_local_scalar_dense", "item", "equal", "nonzero", "masked_select", "is_nonzero", "_unique2", "unique_dim",
    "unique_consecutive", "bincount", "repeat_interleave", "isin",
}  # fmt: skip
_FREE = {  # nothing is launched
    "view", "_unsafe_view", "_reshape_alias", "expand", "slice", "select", "t", "transpose", "permute", "unsqueeze",
    "squeeze", "detach", "alias", "as_strided", "split", "unbind", "diagonal", "empty", "empty_strided", "empty_like",
    "new_empty", "new_empty_strided", "unfold", "lift_fresh", "view_as_real",
}  # fmt: skip
_RESIZING = ("arange.start_step", "arange.start", "arange", "randperm")  # sizes set in place
_kept: list[torch.library.Library] = []
_NOT_DETERMINISTIC = {("median", "dim"), ("kthvalue", ""), ("scatter_reduce", "two"), ("index_reduce", "")}


@dataclass
class Seen:
    """What was seen of operations on the device.

    Attributes:
        launches: Operations that a device would run, by name.
        waits: Where the host waits for the device: operation, file and line, once for each time.
        threads: Who called.
        dtypes: Of all tensors made there.
        forbidden: Dtypes that the device does not know.
    """

    launches: dict[str, int] = field(default_factory=dict)
    waits: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    dtypes: set[torch.dtype] = field(default_factory=set)
    forbidden: tuple[torch.dtype, ...] = ()

    @property
    def n_launches(self) -> int:
        """How many operations a device would run."""
        return sum(self.launches.values())


_seen = Seen()


@contextlib.contextmanager
def watched(forbidden: tuple[torch.dtype, ...] = ()) -> Iterator[Seen]:
    """Yield what is seen from here on; forbidden dtypes raise."""
    global _seen
    before, _seen = _seen, Seen(forbidden=forbidden)
    try:
        yield _seen
    finally:
        _seen = before


class OnDevice(Tensor):
    """A tensor on the device."""

    there: Tensor

    @staticmethod
    def __new__(cls, there: Tensor) -> OnDevice:
        if there.dtype in _seen.forbidden:
            raise TypeError(f"the fake device has no {there.dtype}")
        _seen.dtypes.add(there.dtype)
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls, there.size(), strides=there.stride(), storage_offset=there.storage_offset(), dtype=there.dtype,
            device=torch.device(DEVICE),
        )  # fmt: skip
        made.there = there
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def as_subclass(self, cls: Any) -> Any:
        """Remain what it is: there is nothing else that it could be."""
        return self

    def tolist(self) -> Any:
        """Return the values, as a real device does; torch has no answer for subclasses."""
        return self.cpu().tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.there!r})"


def begin() -> None:
    """Make the device known to torch, once a process."""
    if _SETUP is not None and not hasattr(torch, "privateuseone"):
        _SETUP()
        library = torch.library.Library("_", "IMPL")
        library.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")
        factories = torch.library.Library("aten", "IMPL")
        for name in _RESIZING:
            factories.impl(name, _factory(name), "PrivateUse1")
        _kept.extend((library, factories))


def _factory(name: str) -> Any:
    packet, _, overload = name.partition(".")
    func = getattr(getattr(_ATEN, packet), overload or "default")
    return lambda *args, **kwargs: _run(func, args, kwargs)


def to_device(t: Tensor) -> Tensor:
    """Return a tensor with the same values on the device."""
    begin()
    return OnDevice(t.clone(memory_format=torch.preserve_format))


def to_host(t: Tensor) -> Tensor:
    """Return a tensor of the device as one of the CPU, which nobody notes."""
    assert isinstance(t, OnDevice)
    return t.there


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    _seen.threads.add(threading.get_ident())
    if func.namespace == "janelia_core":  # made of other operations
        return OPDEFS[func._schema.name]._init_fn(*args, **kwargs)
    flat, shape = _pytree.tree_flatten((args, kwargs))
    _check_devices(func, flat)
    _check_deterministic(func, flat)
    wrappers = {id(value.there): value for value in flat if isinstance(value, OnDevice)}
    elsewhere = func.overloadpacket in (_ATEN._to_copy, _ATEN.copy_) and _leaves(flat, kwargs)
    _note(func, flat, elsewhere)
    asked = kwargs.get("device")
    here = elsewhere is not None or any(isinstance(value, OnDevice) for value in flat) or _is_ours(asked)
    to_cpu = elsewhere == "to the host"
    bare_args, bare_kwargs = _pytree.tree_unflatten([_bare(value) for value in flat], shape)
    found = func(*bare_args, **bare_kwargs)

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in wrappers:
            if wrappers[id(value)].shape != value.shape:
                raise NotImplementedError(f"{func} changes a size in place")
            return wrappers[id(value)]
        return value if to_cpu or not here else OnDevice(value)

    return _pytree.tree_map(wrapped, found)


def _bare(value: Any) -> Any:
    if isinstance(value, OnDevice):
        return value.there
    return torch.device("cpu") if _is_ours(value) else value


def _is_ours(value: Any) -> bool:
    return isinstance(value, torch.device) and value.type == "privateuseone"


def _check_devices(func: Any, flat: list[Any]) -> None:
    """Tensors of a CPU are welcome as single numbers, as indices, and to be copied."""
    names = func.overloadpacket
    if names in (_ATEN._to_copy, _ATEN.copy_) or not any(isinstance(value, OnDevice) for value in flat):
        return
    plain = [value for value in flat if isinstance(value, Tensor) and not isinstance(value, OnDevice)]
    if any(value.ndim for value in plain):
        raise RuntimeError(f"{func}: tensors on two devices, {[tuple(value.shape) for value in plain]} on the CPU")


def _check_deterministic(func: Any, flat: list[Any]) -> None:
    if not torch.are_deterministic_algorithms_enabled():
        return
    name, _, overload = func._schema.name.partition("::")[2], None, func._overloadname
    sums = name == "cumsum" and flat[0].dtype.is_floating_point
    if sums or (name, "" if overload == "default" else overload) in _NOT_DETERMINISTIC:
        raise RuntimeError(f"{func} has no deterministic implementation")


def _leaves(flat: list[Any], kwargs: Any) -> str | None:
    """Tell which way a copy goes, if it leaves a device."""
    tensors = [value for value in flat if isinstance(value, Tensor)]
    ours = [isinstance(value, OnDevice) for value in tensors]
    if len(tensors) == 2:  # copy_
        return None if ours[0] == ours[1] else ("to the device" if ours[0] else "to the host")
    asked = kwargs.get("device")
    if asked is None or _is_ours(asked) == ours[0]:
        return None
    return "to the device" if _is_ours(asked) else "to the host"


def _note(func: Any, flat: list[Any], elsewhere: str | None) -> None:
    name = func._schema.name.partition("::")[2]
    scalars = elsewhere == "to the device" and all(value.ndim == 0 for value in flat if isinstance(value, Tensor))
    if (elsewhere and not scalars) or name.rstrip("_") in _WAITS or _by_bools(name, flat):
        _seen.waits.append(f"{name} {elsewhere or ''} at {_place()}")
    if name not in _FREE:
        _seen.launches[name] = _seen.launches.get(name, 0) + 1


def _by_bools(name: str, flat: list[Any]) -> bool:
    """Tell whether tensors are indexed by bools, which have to be counted; one number is written without."""
    if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return False
    indices = [value for value in flat[1:] if isinstance(value, Tensor)]
    if name != "index" and indices[-1].numel() == 1:
        return False
    return any(value.dtype in (torch.bool, torch.uint8) for value in (indices if name == "index" else indices[:-1]))


def _place() -> str:
    frames = [frame for frame in traceback.extract_stack() if "janelia_core" in frame.filename]
    return f"{frames[-1].filename.rpartition('janelia_core/')[2]}:{frames[-1].lineno}" if frames else "elsewhere"
