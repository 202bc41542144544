"""What a screen may offer beside, for centres that are kept: few rows at once; and a way into a file, and out again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.screens.contract import Prepared
from janelia_core.ml._runtime.arrays import I64, Reals


class Few(Protocol):
    """Answers a few rows at once, in the calling thread: no plan, no look, no pool."""

    def nearest(self, x: Any, k: int, root: bool, threads: int = 1) -> tuple[I64, Any, I64]:
        """Return the k nearest of plain rows x (n, d), nearest first, and which rows are in doubt.

        Args:
            x: In C order; any values; of float32, or of float64 where that was asked for.
            k: One that was asked for.
            root: Roots of order values are wanted.
            threads: Who may share the work.

        Returns:
            Row numbers (n, k), distances (n, k), of float32 correctly rounded, of float64 to be taken anew, and
            doubtful rows (m,), of which nothing is known.
        """
        ...


@runtime_checkable
class ByFew(Protocol):
    """Prepared centres by which few rows may be answered at once."""

    def few(self, k: int, wide: bool = False) -> Few | None:
        """Return who answers rows of float32 or, wide, of float64, with k neighbours; None where nothing serves so."""
        ...


Stored = tuple[Mapping[str, Reals], Mapping[str, Any]]
"""Arrays by name, and facts that JSON holds."""


class UnsuitedError(ValueError):
    """What was stored is sound, but of another version or another kind of machine: it has to be made anew."""


@runtime_checkable
class Storing(Protocol):
    """A screen whose prepared centres, which depend on nothing else, can be put into a file and taken out again."""

    name: str

    def stored(self, prepared: Any) -> list[Stored]:
        """Return what was prepared, as pieces; nobody writes to their arrays."""
        ...

    def restored(self, centres: Centres, form: int, pieces: list[Stored]) -> Prepared:
        """Return what `stored` took apart, over the same centres and for the same form of metric.

        Raises:
            UnsuitedError: The pieces are of no use here.
            ValueError: They are not of these centres, or damaged.
        """
        ...
