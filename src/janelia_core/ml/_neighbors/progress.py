"""A bar for long searches, which reads how many rows the report of the running search has counted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from janelia_core.extras import import_extra
from janelia_core.ml._knn.report import Report, follow_knn

_INTERVAL = 0.1  # seconds


@contextlib.contextmanager
def progress_bar(n_rows: int) -> Iterator[None]:
    """Show a tqdm bar of the rows searched inside the block.

    Args:
        n_rows: Rows of all searches made inside the block.

    Raises:
        MissingExtraError: tqdm is not installed.
    """
    tqdm = import_extra("tqdm.auto", "progress").tqdm
    done = threading.Event()
    with follow_knn() as reports, tqdm(total=n_rows, unit="row", desc="knn") as bar:

        def follow() -> None:
            while not done.wait(_INTERVAL):
                _advance(bar, _counted(reports))

        follower = threading.Thread(target=follow, name="knn-progress", daemon=True)
        follower.start()
        try:
            yield
            n_done = n_rows
        except BaseException:
            n_done = _counted(reports)
            raise
        finally:
            done.set()
            follower.join()
            _advance(bar, n_done)


def _counted(reports: list[Report]) -> int:
    return sum(report.n_done for report in reports)


def _advance(bar: Any, n_done: int) -> None:
    bar.update(max(0, n_done - bar.n))
