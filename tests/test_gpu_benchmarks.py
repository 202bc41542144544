"""Benchmarks of GPU searches, without a GPU: the model computes what was measured; the command writes its tables."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LONG = ("100,000 x 1,000,000 x 128", "100,000 x 1,000,000 x 64", "30,000 x 500,000 x 256", "10,000 x 10,000,000 x 768")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu_model")


def test_searches_on_an_h100_are_expected_to_take_what_they_were_measured_to_take(model: ModuleType) -> None:
    for shape in model.SHAPES:
        one = model.modelled(shape, model.CHIPS[0])
        if str(shape).startswith(LONG):
            measured = 1e-3 * model.RUNS[str(shape)]
            assert measured / 1.4 < one.expected < 1.4 * measured, shape


def test_no_search_is_expected_to_beat_its_products_and_other_rates_never_help(model: ModuleType) -> None:
    for chip in model.CHIPS:
        slow = chip._replace(memory=chip.memory / 10, float64=chip.float64 / 100)
        for shape in model.SHAPES:
            one, other = model.modelled(shape, chip), model.modelled(shape, slow)
            if not one.works:
                assert one.why, shape
                continue
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


def test_the_command_for_a_gpu_writes_its_tables_after_every_search(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu = importlib.import_module("gpu")
    given = ["gpu.py", "--dry", "--cases", "x 128, k = 10", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", given)
    gpu.main()
    cases = json.loads((tmp_path / "gpu.json").read_text())["cases"]
    table = (tmp_path / "gpu.md").read_text()
    assert len(cases) == 5
    for name, case in cases.items():
        assert case["wrong"] == 0 < case["compared"]
        assert case["times"].keys() | case["said"].keys() == {"knn_mc", *gpu.RIVALS}
        assert f"| {name} | {case['screen']} | {case['times']['knn_mc']:.2f} |" in table
    monkeypatch.setattr(sys, "argv", [*given, "--seconds", "-1"])
    gpu.main()
    assert capsys.readouterr().out.count("not begun") == 5


def test_a_wrong_neighbour_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    measure = importlib.import_module("gpu_measure")
    x, ctrs = torch.randn(5, 4), torch.randn(100, 4)
    right = torch.cdist(x.double(), ctrs.double()).argsort(dim=1)[:, :3]
    assert measure.wrong_rows(x, ctrs, right) == 0
    right[4] = right[4].flip(0)
    assert measure.wrong_rows(x, ctrs, right) == 1
