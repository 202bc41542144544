"""knn_graph(): found neighbours as the edges of a graph, in the forms that graph libraries take."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.overrides import handle_torch_function

from janelia_core.extras import import_extra
from janelia_core.ml._neighbors.call import knn
from janelia_core.ml._neighbors.found import Neighbors
from janelia_core.ml._neighbors.spelling import explained
from janelia_core.ml._runtime.transforms import is_stand_in

Form = Literal["edge_index", "scipy", "torch"]
Mode = Literal["connectivity", "distance"]
_FORMS, _MODES = get_args(Form), get_args(Mode)  # which older Dynamo cannot ask for


@explained
def knn_graph(
    x: Tensor,
    k: int,
    ctrs: Tensor | None = None,
    *,
    form: Form = "edge_index",
    mode: Mode = "connectivity",
    **options: Any,
) -> Any:
    """Return the graph that joins each row of x to its k nearest neighbours, in x itself or in ctrs.

    Args:
        x: (n_smps, d), as for `knn`.
        k: Neighbours of each row, fewer where there are fewer: a graph has the edges that exist.
        ctrs: (n_ctrs, d), or None: the rows of x but for the row itself.
        form: "edge_index", "scipy" or "torch", see Returns.
        mode: "connectivity": edges alone, or ones as the matrix's values. "distance": distances, too.
        **options: Further arguments of `knn`: metric, x_batch, mask, include_self, max_memory and so on.

    Returns:
        Form "edge_index": int64 (2, n_edges) on x's device in the direction of PyTorch Geometric, row by row and
        nearest first: `edge_index[0]` holds the sources, which are the neighbours, `edge_index[1]` the targets,
        which are the rows of x. With mode "distance" a pair of it and the distances (n_edges,), differentiable.

        Form "scipy": a `scipy.sparse.csr_matrix` (n_smps, n_ctrs) as of scikit-learn's `kneighbors_graph`: row i
        holds the neighbours of x[i], nearest first, with values 1.0 or the distances.

        Form "torch": the same as a sparse CSR tensor, whose columns ascend, as torch wants it.

        Where a row has fewer than k neighbours it has fewer edges.

    Raises:
        MissingExtraError: form is "scipy" and SciPy is not installed.
        TypeError: As `knn`.
        ValueError: As `knn`; or form or mode is unknown, or x or ctrs has leading dimensions (use batch vectors).

    Example:
        >>> import torch
        >>> knn_graph(torch.tensor([[0.0], [1.0], [3.0]]), k=1)
        tensor([[1, 0, 1],
                [0, 1, 2]])
    """
    for name, value, choices in (("form", form, _FORMS), ("mode", mode, _MODES)):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    if is_stand_in(x):
        return handle_torch_function(knn_graph, (x,), x, k, ctrs, form=form, mode=mode, **options)
    if isinstance(k, Tensor) and k.ndim > 0:
        raise TypeError(f"k must be an int, got a tensor of shape {tuple(k.shape)}; write knn_graph(x, k, ctrs)")
    found = knn(x, ctrs, k, **options)
    if found.indices.ndim > 2:
        raise ValueError(
            f"a graph has nodes numbered in one row: x must have shape (n_smps, d), got {tuple(x.shape)}; "
            "flatten the batch and give x_batch"
        )
    if form == "edge_index":
        return _edge_index(found, mode, _is_full(found, x, ctrs, options))
    n_ctrs = x.shape[0] if ctrs is None else ctrs.shape[0]
    return _scipy(found, n_ctrs, mode) if form == "scipy" else _torch(found, n_ctrs, mode)


def _is_full(found: Neighbors, x: Tensor, ctrs: Tensor | None, options: dict[str, Any]) -> bool:
    """Whether the shapes alone tell that every row has k neighbours."""
    if options.get("mask") is not None or options.get("x_batch") is not None:
        return False
    n_ctrs = options.get("sample") or (x if ctrs is None else ctrs).shape[0]
    but_self = 1 if ctrs is None and not options.get("include_self", False) else 0
    return bool(found.indices.shape[1] + but_self <= n_ctrs)


def _edge_index(found: Neighbors, mode: str, full: bool) -> Tensor | tuple[Tensor, Tensor]:
    """Return the edges; where all are there, by operations whose result has a known shape, as tracers and vmap want."""
    there = found.indices >= 0
    targets = torch.arange(there.shape[0], device=there.device)[:, None].expand_as(there)
    sources, targets, lengths = (
        values.reshape(-1) if full else values[there] for values in (found.indices, targets, found.distances)
    )
    edges = torch.stack([sources, targets])
    return edges if mode == "connectivity" else (edges, lengths)


def _scipy(found: Neighbors, n_ctrs: int, mode: str) -> Any:
    sparse = import_extra("scipy.sparse", "scipy")
    starts, columns, values = (t.detach().cpu().numpy() for t in _rows(found, mode, torch.float64))
    return sparse.csr_matrix((values, columns, starts), shape=(len(starts) - 1, n_ctrs))


def _torch(found: Neighbors, n_ctrs: int, mode: str) -> Tensor:
    # Empty slots go last, as columns that are cut off.
    columns, place = torch.where(found.indices < 0, n_ctrs, found.indices).sort(dim=1)
    columns = columns.masked_fill(columns == n_ctrs, -1)
    ascending = Neighbors(found.distances.gather(1, place), columns)
    starts, columns, values = _rows(ascending, mode, found.distances.dtype)
    return torch.sparse_csr_tensor(starts, columns, values, (len(starts) - 1, n_ctrs), check_invariants=False)


def _rows(found: Neighbors, mode: str, dtype_of_ones: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return where rows start (n + 1,), columns and values (n_edges,)."""
    there = found.indices >= 0
    starts = torch.nn.functional.pad(there.sum(dim=1).cumsum(dim=0), (1, 0))
    columns = found.indices[there]
    values = found.distances[there] if mode == "distance" else torch.ones_like(columns, dtype=dtype_of_ones)
    return starts, columns, values
