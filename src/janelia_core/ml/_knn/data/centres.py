"""The centres of a search, and all that was made of them alone: what a kept index keeps."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor

from janelia_core.ml._knn.data.copies import Sifts, may_sift, without_spare_copies
from janelia_core.ml._knn.data.points import Points, is_wide
from janelia_core.ml._knn.data.seen import Seen
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._runtime.locks import ForkSafeLock
from janelia_core.ml._runtime.workers import Workers

T = TypeVar("T")
_NOTHING = object()


class Centres:
    """Centres, looked at, sifted and prepared when that is first asked for, and once.

    Whoever holds this over several searches holds what they prepared: the same bytes come out, sooner. Values must not
    change meanwhile.

    Args:
        points: The centres as stored.
    """

    def __init__(self, points: Points) -> None:
        self.points = points
        self._made: dict[Hashable, Any] = {}  # the one asked for last stands last
        self._lock, self._making = ForkSafeLock(), ForkSafeLock()  # of the dictionary, and of what takes long

    def __len__(self) -> int:
        return len(self.points)

    def by(self, chunk: int) -> Centres:
        """Return the same centres, with all that is made of them, for stages that hold `chunk` coordinates."""
        if chunk == self.points.chunk:
            return self
        same = Centres(replace(self.points, chunk=chunk))
        same._made, same._lock, same._making = self._made, self._lock, self._making
        return same

    def apart(self) -> Centres:
        """Return the same centres for a search of which nothing is kept; what was seen of them is known."""
        same = Centres(self.points)
        seen = self._held("seen")
        if seen is not _NOTHING:
            same.put("seen", seen)
        return same

    def made(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is called key; where there is none yet, make it, while others that want to make anything wait."""
        found = self._held(key)
        if found is _NOTHING:
            with self._making:
                found = self._held(key)
                if found is _NOTHING:
                    found = make()
                    assert found is not self, "a cycle would keep all that was made until the next collection"
        self.put(key, found)
        made: T = found
        return made

    def _held(self, key: Hashable) -> Any:
        with self._lock:
            return self._made.get(key, _NOTHING)

    def put(self, key: Hashable, made: Any) -> None:
        """Hold what was made elsewhere, as what was asked for last."""
        with self._lock:
            self._made.pop(key, None)
            self._made[key] = made

    def holds(self, key: Hashable) -> bool:
        """Tell whether there is something that is called key."""
        return self._held(key) is not _NOTHING

    def prepared(self, screen: str, form: int) -> list[Any]:
        """Return what stands that was prepared for a screen and a form of metric, of all or some of the centres."""
        found = []
        for key, made in self._items():
            if isinstance(made, Centres):
                found += made.prepared(screen, form)
            elif isinstance(key, tuple) and key[:2] == (screen, form) and made.stands:
                found.append(made)
        return found

    def forget(self, key: Hashable) -> None:
        """Hold what is called key no longer."""
        with self._lock:
            self._made.pop(key, None)

    @property
    def nbytes(self) -> int:
        """Bytes of all that was made and is held."""
        return sum(getattr(made, "nbytes", 0) for _, made in self._items())

    def trim(self, most: int) -> None:
        """Hold `most` bytes at most: what no later search would find made goes, then what was not asked for longest."""
        for key, made in self._items():
            if isinstance(made, Centres):
                made.trim(most)
            elif getattr(made, "nbytes", 0) and not made.stands:
                self.forget(key)
        for key, made in self._items():
            if self.nbytes <= most:
                return
            if getattr(made, "nbytes", 0):
                self.forget(key)

    def _items(self) -> list[tuple[Hashable, Any]]:
        with self._lock:
            return list(self._made.items())

    def seen(self, reader: Reader) -> Seen:
        """Return what a look at all values tells."""
        return self.made("seen", lambda: Seen(self.points, reader))

    @property
    def is_seen(self) -> bool:
        """All values were looked at."""
        return self.holds("seen")

    def tell(self, largest: float) -> None:
        """Spare a look at all values, which are finite and up to `largest` in magnitude."""
        self.made("seen", lambda: Seen.told(self.points, largest))

    @property
    def columns(self) -> tuple[Tensor, Tensor] | None:
        """Each coordinate's least and greatest value, where a look at these very centres has told them."""
        seen = self._held("seen")
        return None if seen is _NOTHING else seen.columns

    @property
    def largest(self) -> float | None:
        """The largest magnitude, where a look at these very centres has told it."""
        seen = self._held("seen")
        return None if seen is _NOTHING else seen.largest

    def finite(self, reader: Reader) -> Centres:
        """Return the centres without those that hold infinities or NaN."""
        if self.seen(reader).finite:
            return self
        return self.made("finite", lambda: _Some(reader.workers.once(self.points.finite)))

    def without_copies(self, k: int, room: int, workers: Workers) -> Centres:
        """Return the centres without copies that no one is answered with, since k of lower number come before.

        Some of these may stay, so that what is made of the others serves several k. All do where bytes don't suffice:
        that is not remembered, as the next search may have more.

        Args:
            k: How many are wanted.
            room: Bytes that may be used.
            workers: Who looks.
        """
        points = self.points
        if points.device.type != "cpu" or is_wide(points.values):
            return self

        def sift(most: int) -> Centres | None:  # None: all stay
            sifted = workers.once(lambda: without_spare_copies(points, most, room))
            return None if sifted is points else _Some(sifted)

        with self._making:
            sifts: Sifts[Centres] = self.made("sifts", Sifts)
            return sifts.serving(k, sift if may_sift(points, room) else None) or self


class _Some(Centres):
    """Some of the centres, whose row numbers take memory too."""

    @property
    def nbytes(self) -> int:
        """Bytes of the row numbers, and of all that was made of these centres."""
        subset = self.points.subset
        return super().nbytes + (0 if subset is None else subset.nbytes)
