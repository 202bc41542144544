"""The check of a product accepts what the bound allows and rejects reduced precision."""

from __future__ import annotations

import pytest
import torch

from janelia_core.ml._knn.small import canary


def test_products_of_this_machine_obey_the_bound() -> None:
    assert canary.product_is_sound()


def test_a_product_that_rounds_its_operands_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.mm

    def shortcut(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return honest(a.bfloat16().float(), b.bfloat16().float())

    monkeypatch.setattr(torch, "mm", shortcut)
    assert not canary.within_bound(torch.randn(256, 18), torch.randn(18, 256))
