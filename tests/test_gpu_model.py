"""The cost model of GPU searches (benchmarks/gpu_model.py) computes what was measured, and names what limits."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LONG = ("100,000 x 1,000,000 x 128", "100,000 x 1,000,000 x 64", "30,000 x 500,000 x 256", "10,000 x 10,000,000 x 768")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_model

    return gpu_model


def test_searches_on_an_h100_are_expected_to_take_what_they_were_measured_to_take(model: ModuleType) -> None:
    for shape in model.SHAPES:
        one = model.modelled(shape, model.CHIPS[0])
        if str(shape).startswith(LONG):
            measured = 1e-3 * model.FIRST_RUN[str(shape)]
            assert measured / 1.4 < one.device + one.host < 1.4 * measured, shape


def test_no_search_is_expected_to_beat_its_products_and_other_rates_never_help(model: ModuleType) -> None:
    for chip in model.CHIPS:
        slow = chip._replace(memory=chip.memory / 10, float64=chip.float64 / 100)
        for shape in model.SHAPES:
            one, other = model.modelled(shape, chip), model.modelled(shape, slow)
            assert one.works
            assert one.product < one.device <= other.device
            assert sum(work.product for work in one.works) >= 2.0 * shape.n * shape.n_ctrs * shape.d


def test_the_command_names_a_limit_and_what_stands_above_the_product(
    model: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_model.py", "--chips", "H100", "--cases", "1,000,000 x 128", "--kernels"])
    model.main()
    said = capsys.readouterr().out
    assert "products of scan" in said
    assert "Above the bare product of" in said
    assert "RTX" not in said
