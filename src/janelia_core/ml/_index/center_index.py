"""CenterIndex: centres that are searched again and again, with what pays to keep of them."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor

from janelia_core.ml._index import few_rows
from janelia_core.ml._index.changes import grown, shrunk
from janelia_core.ml._index.memory import checked_keep, default_keep, in_words
from janelia_core.ml._index.plans import drawn_of, planned, prepare
from janelia_core.ml._index.saving import for_file, for_pickle, put_together, taken_apart
from janelia_core.ml._index.stored.saved import Saved, load, save
from janelia_core.ml._index.versions import check_unchanged, countable, versions_of
from janelia_core.ml._knn.among import Among, Part
from janelia_core.ml._knn.kept import Kept
from janelia_core.ml._knn.metrics.mapped import check_columns
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import DEFAULT_MEMORY
from janelia_core.ml._neighbors import arguments
from janelia_core.ml._neighbors.call import Batches, checked_settings, neighbors
from janelia_core.ml._neighbors.found import Neighbors
from janelia_core.ml._neighbors.radius.call import SortBy, radius_among
from janelia_core.ml._neighbors.radius.found import RadiusNeighbors
from janelia_core.ml._neighbors.radius.radii import checked_radii
from janelia_core.ml._neighbors.spelling import check_metric, explained

Mask = Tensor | Callable[[Tensor, int, int], Tensor]


class CenterIndex:
    """Centres that are searched again and again: what a search prepares of them is kept as soon as that pays.

    Nothing is prepared before it is asked for. The first row costs a pass over the centres; what rows to come would
    save by packed words or a box tree is counted, and these are made when the rows so far would have paid for them, so
    that no more than twice the work of the best choice in hindsight is ever spent. Several k, metrics and dtypes of
    rows share what is kept.

    An index never changes, and any number of threads may search it. It can be pickled, and saved.

    Args:
        ctrs: (n_ctrs, d) centres; any real dtype and device. They are not copied: to change them afterwards is an
            error at the next search, not a wrong answer. (Tensors of inference mode, whose changes torch does not
            count, are.)
        metric: What `knn` orders by unless told otherwise: "euclidean", "sqeuclidean", "cosine", "dot", "manhattan",
            "chebyshev" or "haversine", which keeps the centres' points of the sphere, too.
        max_memory: Bytes that may be kept beside the centres; 0: none. None: one and a half times what the centres
            take in float32, or what a box tree over them takes if that is more.

    Raises:
        TypeError, ValueError: An argument has the wrong type, or a shape or number does not fit.

    Exactness:
        Answers are those of `janelia_core.ml.knn(x, index.ctrs, k)`, to the byte, whatever is kept and was asked
        before; distances are differentiable in x and in ctrs alike.

    Example:
        >>> import torch
        >>> index = CenterIndex(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]]))
        >>> index.knn(torch.zeros(1, 2), k=2)
        Neighbors(distances=tensor([[0., 2.]]), indices=tensor([[0, 2]]))
        >>> index.without(torch.tensor([2])).knn(torch.zeros(1, 2), k=2).indices
        tensor([[0, 1]])
    """

    def __init__(self, ctrs: Tensor, *, metric: str = "euclidean", max_memory: int | None = None) -> None:
        arguments.check_centres(ctrs)
        check_metric(metric)
        check_columns(metric, ctrs.shape[1], "ctrs")
        ctrs = countable(ctrs)
        keep = default_keep(ctrs) if max_memory is None else checked_keep(max_memory)
        self._set(ctrs, metric, max_memory, Among(ctrs, (Part(0, Kept(ctrs, keep)),)))

    def _set(self, ctrs: Tensor, metric: str, max_memory: int | None, among: Among) -> None:
        self._ctrs, self._metric, self._max_memory, self._among = ctrs, metric, max_memory, among
        self._versions = versions_of(ctrs, among)

    @classmethod
    def _of(cls, ctrs: Tensor, metric: str, max_memory: int | None, among: Among) -> CenterIndex:
        index = cls.__new__(cls)
        index._set(ctrs, metric, max_memory, among)
        return index

    @property
    def ctrs(self) -> Tensor:
        """The centres (n_ctrs, d), those that are removed included: indices are its row numbers."""
        return self._ctrs

    @property
    def numbers(self) -> Tensor:
        """The numbers of the centres that are searched (len(index),) int64, ascending: rows of ctrs."""
        left = self._among.left
        return torch.arange(len(self._ctrs), device=self._ctrs.device) if left is None else left.clone()

    @property
    def metric(self) -> str:
        """What `knn` orders by unless told otherwise."""
        return self._metric

    @property
    def nbytes(self) -> int:
        """Bytes that are kept beside the centres."""
        return sum(part.kept.nbytes for part in self._among.parts)

    def __len__(self) -> int:
        """How many centres are searched: those removed don't count."""
        return len(self._among)

    def __repr__(self) -> str:
        return (
            f"CenterIndex({len(self)} centres in {self._ctrs.shape[1]} dimensions, {self._ctrs.dtype}, "
            f"metric={self._metric!r}; {in_words(self._among.parts)})"
        )

    @explained
    def knn(
        self,
        x: Tensor | None = None,
        k: int = 1,
        *,
        metric: str | None = None,
        m: int | None = None,
        max_memory: int | None = None,
        mask: Mask | None = None,
        sample: int | None = None,
        generator: torch.Generator | None = None,
        lengths: Tensor | None = None,
        r: float | Tensor | None = None,
        progress: bool = False,
    ) -> Neighbors:
        """Find the k nearest centres of each row of x, as `janelia_core.ml.knn` does.

        Args:
            x: (..., n_smps, d) samples, on the centres' device. None: the centres themselves, of which none is its
                own neighbour; row i of the answer belongs to centre i.
            k: How many centres to find for each sample, at least 1; where there are fewer, the rest is filled up.
            metric: What to order by in this call; None: the index's own.
            m: Bounds how many scores are held at once, as for `knn_mc`; None: as many as the memory allows.
            max_memory: Bytes of workspace beyond inputs, results and what is kept, at least a mebibyte; None as there.
            mask: Who may be a neighbour, as for `knn`, by number: (n_ctrs,), (..., n_smps, n_ctrs) or a function.
            sample: Search only so many centres, drawn at random for this call from all that are left.
            generator: Source of the draw, for sample alone.
            lengths: (...) integers: rows of x that count in each batch of a padded x (..., n_smps, d).
            r: Find the k nearest within this distance alone: one number, or (..., n_smps) one for each row.
            progress: Show a bar of the rows searched, by tqdm (the extra `progress`).

        Raises:
            TypeError, ValueError: An argument has the wrong type, or a shape, device or number does not fit.
            RuntimeError: The centres were changed since the index was made.
        """
        among = self.unchanged()
        asked = not (m is None and mask is None and sample is None and generator is None and lengths is None)
        usual = max_memory is None or (type(max_memory) is int and max_memory == DEFAULT_MEMORY)
        asked = asked or progress is not False or r is not None or not usual
        metric = self._metric if metric is None else metric
        if not asked and type(k) is int and k >= 1 and few_rows.are_few(x, self._ctrs):
            found = few_rows.answer(x, self._ctrs, among, k, metric)  # type: ignore[arg-type]
            if found is not None:
                return found
        rows, but_self = (self._ctrs, True) if x is None else (x, False)
        arguments.check_points(rows, self._ctrs)
        arguments.check_lengths("lengths", lengths, "x", rows)
        arguments.check_mask(mask, rows, self._ctrs)
        arguments.check_switch("progress", progress)
        call = checked_settings(k, metric, m, max_memory, rows.device, but_self)
        subset = drawn_of(among, rows, self._ctrs, sample, generator)
        batches = Batches(lengths=lengths)
        radii = None if r is None else checked_radii(r, rows, self._ctrs, metric)
        return neighbors(rows, self._ctrs, call, subset, mask, batches, progress=progress, kept=among, radii=radii)

    @explained
    def radius(
        self,
        x: Tensor | None = None,
        r: float | Tensor = 1.0,
        *,
        metric: str | None = None,
        max_neighbors: int | None = None,
        sort_by: SortBy = "distance",
        max_memory: int | None = None,
    ) -> RadiusNeighbors:
        """Find all centres within the distance r of each row of x, as `janelia_core.ml.radius` does.

        Args:
            x: (..., n_smps, d) samples. None: the centres themselves, of which none is its own neighbour.
            r: The radius: one number, or a tensor of one for each row.
            metric: Of the distance; None: the index's own.
            max_neighbors: The nearest so many at most of each row; None: all.
            sort_by: "distance" or "index".
            max_memory: Bytes of workspace beyond inputs, results and what is kept.

        Raises:
            TypeError, ValueError, MemoryError: As there.
            RuntimeError: The centres were changed since the index was made.
        """
        among = self.unchanged()
        rows, but_self = (self._ctrs, True) if x is None else (x, False)
        metric = self._metric if metric is None else metric
        return radius_among(rows, self._ctrs, among, r, metric, max_neighbors, sort_by, max_memory, but_self)

    def plan(self, n_smps: int, k: int = 1, *, metric: str | None = None, max_memory: int | None = None) -> Plan:
        """Return what a search of float32 rows would run now, for the largest part of the centres.

        Args:
            n_smps: How many rows.
            k: How many neighbours of each, at most as many as there are centres.
            metric: What to order by; None: the index's own.
            max_memory: Bytes of workspace, as for `knn`.
        """
        return planned(self._among, n_smps, k, self._metric if metric is None else metric, max_memory)

    def prepare(self, n_smps: int, k: int = 1, *, metric: str | None = None) -> CenterIndex:
        """Make now what a search of so many rows would prepare, so that even the first rows find it; return the index.

        Args:
            n_smps: Rows that will be asked for in all.
            k: How many neighbours of each.
            metric: What they will be ordered by; None: the index's own.
        """
        prepare(self._ctrs.detach(), self.unchanged(), n_smps, k, self._metric if metric is None else metric)
        return self

    def with_rows(self, more: Tensor) -> CenterIndex:
        """Return an index with more centres: what this one keeps serves both.

        Args:
            more: (n, d) of the dtype and device of ctrs. Their numbers go on from those of this index: row i of more
                is centre `len(index.ctrs) + i`. Where neither needs gradients, memory for more to come is set aside,
                half as much as there is, so that adding rows again copies none.

        Raises:
            TypeError, ValueError: more does not fit ctrs.
        """
        ctrs, among = grown(self._ctrs, self.unchanged(), more, self._max_memory)
        return self._of(ctrs, self._metric, self._max_memory, among)

    def without(self, numbers: Tensor) -> CenterIndex:
        """Return an index without some of the centres. All others keep their numbers, and what is kept serves on.

        Args:
            numbers: (n,) integers, row numbers of ctrs, in any order. Who is removed already is no error.

        Raises:
            TypeError, ValueError: They are no integers, or there is no such centre.
        """
        return self._of(self._ctrs, self._metric, self._max_memory, shrunk(self.unchanged(), numbers, self._max_memory))

    def unchanged(self) -> Among:
        """Return the parts, for who searches them without a call of `knn`; a RuntimeError if the centres changed."""
        check_unchanged(self._ctrs, self._among, self._versions)
        return self._among

    def _taken_apart(self) -> Saved:
        return taken_apart(self._ctrs, self._metric, self._max_memory, self.unchanged())

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write the centres, who of them is left, and all that is kept, to a file that appears when it is whole.

        A safetensors file: see docs/index_file.md. Overwriting one that others have mapped does not disturb them.

        An OSError leaves what was there as it was.
        """
        save(file, for_file(self._taken_apart()))

    @classmethod
    def load(cls, file: str | os.PathLike[str], *, mmap: bool = True, verify: bool = True) -> CenterIndex:
        """Return the index that a file holds; on a CPU.

        Args:
            file: As `save` wrote it, here or on another machine. What was kept and is of no use on this one is made
                again when it pays.
            mmap: Map the file: several processes share one copy. Else read it into memory.
            verify: Compare all of it with its checksums; False: trust that nothing has changed it, which takes no time.

        Raises:
            IndexFileError: A ValueError: the file is damaged, newer, or none of an index. OSErrors pass through.
        """
        return cls._of(*put_together(load(file, mmap=mmap, verify=verify), file))

    def __getstate__(self) -> Saved:
        """Return the centres, who is left of them, and all that is kept."""
        return for_pickle(self._taken_apart())

    def __setstate__(self, state: Saved) -> None:
        self._set(*put_together(state))
