"""Whether centres are still what they were."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.among import Among

Version = tuple[int, ...]


def version_of(values: Tensor) -> Version:
    """Return what changes whenever values do: torch's counter, and where they are; tensors of inference have none."""
    counter = -1 if values.is_inference() else values._version
    return counter, values.data_ptr(), *values.shape, *values.stride()


def countable(ctrs: Tensor) -> Tensor:
    """Return centres whose changes torch counts: a copy of what inference mode made."""
    if ctrs.is_meta:
        raise ValueError("ctrs must hold values, got a tensor on the device meta; make the index of those to come")
    if not ctrs.is_inference():
        return ctrs
    with torch.inference_mode(False):
        return ctrs.clone()


def versions_of(ctrs: Tensor, among: Among) -> tuple[Version, ...]:
    """Return the versions of centres, and of what parts were made of: an index that grew may hold an older tensor."""
    if len(among.parts) == 1 and among.store is None:  # it shares the counter of the centres
        return (version_of(ctrs),)
    return version_of(ctrs), *(version_of(part.kept.centres.points.values) for part in among.parts)


def check_unchanged(ctrs: Tensor, among: Among, versions: tuple[Version, ...]) -> None:
    """Raise a RuntimeError if centres are not of these versions. What is compiled keeps nothing, and may change."""
    if not torch.compiler.is_compiling() and versions_of(ctrs, among) != versions:
        raise RuntimeError(
            "ctrs were changed in place since this CenterIndex was made, or the tensor that it grew from, and what it "
            "keeps is of the old values; make a new one: CenterIndex(ctrs)"
        )
