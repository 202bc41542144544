"""The library's functions as torch.nn modules; those with centres draw some of them anew each call while they train."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function

from janelia_core.ml._index.center_index import CenterIndex
from janelia_core.ml._index.watched import Watched
from janelia_core.ml._knn.face import checked_count, checked_memory
from janelia_core.ml._knn.metrics.mapped import check_columns
from janelia_core.ml._knn.problem import DEFAULT_MEMORY
from janelia_core.ml._log_cosh.module import LogCoshLoss
from janelia_core.ml._neighbors import arguments
from janelia_core.ml._neighbors.affine.gradients import affine_values
from janelia_core.ml._neighbors.call import knn
from janelia_core.ml._neighbors.draw import drawn
from janelia_core.ml._neighbors.found import Neighbors
from janelia_core.ml._neighbors.indices import Settings, knn_indices, search
from janelia_core.ml._neighbors.spelling import check_metric
from janelia_core.ml._runtime.transforms import is_plain, is_stand_in

__all__ = ["LogCoshLoss", "NearestCenters", "PiecewiseLinear"]


class NearestCenters(nn.Module):
    """The k nearest of the module's own centres, exactly; while it trains, among some of them drawn anew each call.

    Args:
        ctrs: (n_ctrs, d). An `nn.Parameter` is learned; another tensor becomes a buffer, and is saved with the state.
        k: How many centres to find for each sample.
        n_ctrs_used: In `train()` mode each call searches so many centres drawn at random: dropout of centres.
            In `eval()` mode, or if None, all are searched.
        m: Bounds how many scores are held at once, as for `knn_mc`; None: as many as the memory allows.
        metric: "euclidean", "sqeuclidean", "cosine", "dot", "manhattan", "chebyshev" or "haversine", as for `knn`.
        max_memory: Bytes of workspace beyond inputs and results, at least a mebibyte; None as for `knn`.
        device: Where the module's own tensors go; None: where ctrs is. On "meta" it holds no values yet: move it with
            `to_empty` and load its state.

    In eval mode what a search prepares of the centres is kept for the next, as a `CenterIndex` does, until they change:
    by an optimizer, `load_state_dict`, `to`, or any other operation on them. `train()` drops it.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape or number does not fit, for example k > n_ctrs_used.

    Example:
        >>> import torch
        >>> nearest = NearestCenters(torch.tensor([[0.0], [1.0], [5.0]]), k=2)
        >>> nearest(torch.tensor([[0.9]]))
        Neighbors(distances=tensor([[0.1000, 0.9000]]), indices=tensor([[1, 0]]))
    """

    ctrs: Tensor

    def __init__(
        self,
        ctrs: Tensor,
        k: int,
        n_ctrs_used: int | None = None,
        m: int | None = None,
        *,
        metric: str = "euclidean",
        max_memory: int | None = None,
        device: torch.device | str | int | None = None,
    ) -> None:
        super().__init__()
        arguments.check_centres(ctrs)
        check_metric(metric)
        check_columns(metric, ctrs.shape[1], "ctrs")
        if n_ctrs_used is not None:
            n_ctrs_used = checked_count("n_ctrs_used", n_ctrs_used, ctrs.shape[0], "n_ctrs")
        most, name = (ctrs.shape[0], "n_ctrs") if n_ctrs_used is None else (n_ctrs_used, "n_ctrs_used")
        self.k = checked_count("k", k, most, name)
        self.n_ctrs_used = n_ctrs_used
        self.m = None if m is None else checked_count("m", m)
        self.metric = metric
        self.max_memory = None if max_memory is None else checked_memory(max_memory, ctrs.device)
        there = ctrs if device is None else ctrs.detach().to(device)
        if isinstance(ctrs, nn.Parameter):
            self.ctrs = ctrs if device is None else nn.Parameter(there, ctrs.requires_grad)
        else:
            self.register_buffer("ctrs", there)
        self._watched = Watched()

    @property
    def sample(self) -> int | None:
        """How many centres the next call draws, or None for all."""
        return self.n_ctrs_used if self.training else None

    def forward(self, x: Tensor) -> Neighbors:
        """Return the neighbours of x (..., d): distances and indices (..., k)."""
        if not self.training and self.m is None and self.max_memory in (None, DEFAULT_MEMORY):
            few = self._watched.few(x, self.ctrs, self.k, self.metric)
            if few is not None:
                return few
        index = self.kept(x)
        if index is None:
            return _nearest(x, self.ctrs, self.k, self.metric, self.m, self.max_memory, self.sample)
        found = index.knn(_rows(x), self.k, m=self.m, max_memory=self.max_memory)
        return found if x.ndim == 2 else _shaped(x, found)

    def kept(self, x: Tensor) -> CenterIndex | None:
        """Return an index of the centres as they are now, for rows x: in eval mode; None where torch watches or traces.

        It is the same as long as the centres are.
        """
        ctrs = self.ctrs
        plain = not self.training and isinstance(x, Tensor) and is_plain(x, ctrs) and not ctrs.is_inference()
        return self._watched.index(ctrs, self.metric) if plain else None

    def train(self, mode: bool = True) -> NearestCenters:
        """Set the mode; what is kept of the centres goes."""
        self._watched.forget()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> NearestCenters:
        self._watched.forget()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return all but what is kept of the centres."""
        return {name: value for name, value in self.__dict__.items() if name != "_watched"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._watched = Watched()

    def extra_repr(self) -> str:
        """Return the settings, for `print(module)`."""
        n_ctrs, d = self.ctrs.shape
        used = "" if self.n_ctrs_used is None else f", n_ctrs_used={self.n_ctrs_used}"
        m = "" if self.m is None else f", m={self.m}"
        metric = "" if self.metric == "euclidean" else f", metric={self.metric!r}"
        return f"n_ctrs={n_ctrs}, d={d}, k={self.k}{used}{m}{metric}"


class PiecewiseLinear(nn.Module):
    """A function pieced together from affine maps: the sum over the k nearest centres of w_j (x - c_j) + b_j.

    Args:
        ctrs: (n_ctrs, d), as for `NearestCenters`.
        n_outputs: Components of the function's values.
        k: How many centres' maps are added up.
        n_ctrs_used: Dropout of centres, as for `NearestCenters`.
        m: Bounds how many scores are held at once; None: as many as the memory allows.
        max_memory: Bytes of workspace beyond inputs, results and gradients, at least a mebibyte; None as for `knn`.
        device: Where the module's own tensors go; None: where ctrs is.

    Attributes:
        nearest: The centres, a `NearestCenters`.
        weight: (n_ctrs, n_outputs, d), zero at first, like bias: the function starts as 0.
        bias: (n_ctrs, n_outputs).

    Memory:
        Forward and backward hold max_memory beyond inputs, results and gradients: nothing of size
        (n_smps, k, d) or (n_smps, k, n_outputs, d).

    Example:
        >>> import torch
        >>> f = PiecewiseLinear(torch.tensor([[0.0], [1.0]]), n_outputs=1, k=1)
        >>> with torch.no_grad():
        ...     _ = f.weight.copy_(torch.tensor([[[1.0]], [[-1.0]]])), f.bias.fill_(3.0)
        >>> f(torch.tensor([[0.25], [1.25]])).tolist()
        [[3.25], [2.75]]
    """

    def __init__(
        self,
        ctrs: Tensor,
        n_outputs: int,
        k: int,
        n_ctrs_used: int | None = None,
        m: int | None = None,
        *,
        max_memory: int | None = None,
        device: torch.device | str | int | None = None,
    ) -> None:
        super().__init__()
        self.nearest = NearestCenters(ctrs, k, n_ctrs_used, m, max_memory=max_memory, device=device)
        n_outputs = checked_count("n_outputs", n_outputs)
        if not ctrs.is_floating_point():
            raise TypeError(f"ctrs must be of a floating dtype, which the maps take over, got {ctrs.dtype}")
        own = self.nearest.ctrs.detach()
        self.weight = nn.Parameter(own.new_zeros(ctrs.shape[0], n_outputs, ctrs.shape[1]))
        self.bias = nn.Parameter(own.new_zeros(ctrs.shape[0], n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's values (..., n_outputs) at x (..., d), in the dtype of x and the maps."""
        nearest = self.nearest
        maps, index = (self.weight, self.bias, nearest.ctrs), nearest.kept(x)
        if index is None:
            return _sum_of_maps(x, *maps, nearest.k, nearest.m, nearest.max_memory, nearest.sample)
        rows = _rows(x)
        arguments.check_points(rows, nearest.ctrs)
        memory = checked_memory(nearest.max_memory, x.device)
        settings = Settings(nearest.k, "euclidean", nearest.m, memory, False)
        indices = search(rows.detach(), nearest.ctrs.detach(), settings, kept=index.unchanged())
        return _summed(x, rows, *maps, indices, memory)

    def extra_repr(self) -> str:
        """Return the number of outputs, for `print(module)`."""
        return f"n_outputs={self.bias.shape[1]}"


def _nearest(
    x: Tensor, ctrs: Tensor, k: int, metric: str, m: int | None, max_memory: int | None, sample: int | None
) -> Neighbors:
    """Return the neighbours of x (..., d): distances and indices (..., k)."""
    if is_stand_in(x):
        return handle_torch_function(_nearest, (x,), **locals())
    return _shaped(x, knn(_rows(x), ctrs, k, metric=metric, m=m, max_memory=max_memory, sample=sample))


def _shaped(x: Tensor, found: Neighbors) -> Neighbors:
    """Return the neighbours of rows in the shape of x (..., d)."""
    shape = (*x.shape[:-1], found.indices.shape[-1])
    return Neighbors(found.distances.reshape(shape), found.indices.reshape(shape))


def _sum_of_maps(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    ctrs: Tensor,
    k: int,
    m: int | None,
    max_memory: int | None,
    sample: int | None,
) -> Tensor:
    """Return the sum of the maps of each row's nearest centres (..., n_outputs) at x (..., d)."""
    if is_stand_in(x):
        return handle_torch_function(_sum_of_maps, (x,), **locals())
    rows = _rows(x)
    arguments.check_points(rows, ctrs)
    subset = drawn(rows, ctrs, sample, None)
    memory = checked_memory(max_memory, rows.device)
    settings = (k, "euclidean", m, memory, False, subset)
    indices = knn_indices(rows.detach(), ctrs.detach(), *settings, None, None, None, None)
    return _summed(x, rows, weight, bias, ctrs, indices, memory)


def _summed(
    x: Tensor, rows: Tensor, weight: Tensor, bias: Tensor, ctrs: Tensor, indices: Tensor, max_memory: int
) -> Tensor:
    out = affine_values(weight, bias, rows, ctrs, indices, max_memory)
    return out.to(torch.promote_types(x.dtype, weight.dtype)).reshape(*x.shape[:-1], bias.shape[1])


def _rows(x: Tensor) -> Tensor:
    """Return x (..., d) as rows (n, d); other things go on to the checks."""
    if not isinstance(x, Tensor) or x.is_nested or x.ndim in (0, 2):
        return x
    return x[None] if x.ndim == 1 else x.flatten(0, -2)
