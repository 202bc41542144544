"""Whether inputs hold what was read of them: when a search goes on, and before its answer is given."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import Any

from janelia_core.files.blocks import Blocks
from janelia_core.files.fingerprint import fingerprint, may_be_same, untouched
from janelia_core.files.question import Question, Work

_CHANGED = "centres and queries must stay as they are, but changed while they were searched"


def compare_touched(
    work: Work, begun: Mapping[str, Any], now: Mapping[str, Any], digests: MutableMapping[str, str]
) -> None:
    """Read anew what was read of inputs that are not in the state in which the search was begun, and compare.

    Args:
        work: What is searched.
        begun: Fingerprints of "centres" and "queries" when the search was begun.
        now: Likewise, now.
        digests: Of what was read.

    Raises:
        ValueError: It changed.
    """
    for role, blocks in _both(work, digests).items():
        if not untouched(begun[role], now[role]):
            blocks.compare_all()


def fingerprints(work: Work) -> dict[str, dict[str, Any]]:
    """Return the fingerprints of "centres" and "queries"."""
    return {"centres": fingerprint(work.centres.files), "queries": fingerprint(work.queries.files)}


def check_unchanged(
    question: Question, work: Work, before: Mapping[str, Any], digests: MutableMapping[str, str]
) -> None:
    """Compare once more what is at the inputs' places, where that was written to while it was searched.

    Args:
        question: What opens the files.
        work: What was searched.
        before: Fingerprints of "centres" and "queries".
        digests: Of what was read since.

    Raises:
        ValueError: It changed.
    """
    now = fingerprints(work)
    if not all(may_be_same(before[role], now[role]) for role in now):
        raise ValueError(_CHANGED)
    if all(untouched(before[role], now[role]) for role in now):
        return
    with question.opened() as (c, q):  # anew: what is open may have been replaced
        if [(file.shape, file.dtype) for file in (c, q)] != [
            (file.shape, file.dtype) for file in (work.centres, work.queries)
        ]:
            raise ValueError(_CHANGED)
        try:
            for blocks in _both(replace(work, centres=c, queries=q), digests).values():
                blocks.compare_all()
        except ValueError as error:
            raise ValueError(f"{_CHANGED}: {error}") from None


def _both(work: Work, digests: MutableMapping[str, str]) -> dict[str, Blocks]:
    return {"centres": Blocks.of_centres(work, digests), "queries": Blocks.of_queries(work, digests)}
