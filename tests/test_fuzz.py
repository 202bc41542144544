"""Whole calls drawn at random: right, and in time. CONTRIBUTING.md says how to run many more of them."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from oracle import nearest
from problems import KINDS, PROBLEMS

TOOLS = Path(__file__).parents[1] / "tools"
PROBLEMS_A_PART, PARTS = 17, 3


def loaded(name: str) -> ModuleType:
    """Import a file of tools/."""
    if str(TOOLS) not in sys.path:
        sys.path.append(str(TOOLS))
    spec = importlib.util.find_spec(name)
    assert spec is not None
    return importlib.import_module(name)


fuzz, oracle = loaded("fuzz"), loaded("fuzz_oracle")
needs_x87 = pytest.mark.skipif(not oracle.USABLE, reason="the oracle needs x87's extended precision")


@needs_x87
@pytest.mark.parametrize("part", range(PARTS))
def test_calls_drawn_at_random_are_right_and_in_time(part: int) -> None:
    first = part * PROBLEMS_A_PART
    assert [line for seed in range(first, first + PROBLEMS_A_PART) for line in fuzz.failures(seed)] == []


@needs_x87
@pytest.mark.parametrize("metric", ["euclidean", "dot", "cosine", "manhattan", "chebyshev"])
@pytest.mark.parametrize("name", KINDS)
def test_its_oracle_agrees_with_the_one_in_integers_alone(name: str, metric: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    known = oracle.Oracle(x, ctrs, metric)
    expected = nearest(x[:3], ctrs, k, metric)
    assert [known.nearest(i, k) for i in range(len(x[:3]))] == expected.T.tolist()


@needs_x87
def test_a_wrong_row_is_told_in_one_line_that_finds_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = next(n for n in range(500) if fuzz.make(n).way == "knn_mc" and " gaussian float" in fuzz.make(n).name)
    honest = fuzz.knn_mc
    monkeypatch.setattr(fuzz, "knn_mc", lambda *given, **more: honest(*given, **more) + 1)
    assert fuzz.main(["--only", str(seed)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"--only {seed}: knn_mc ")
    assert "rows wrong" in lines[0]
    assert lines[-1] == "1 problems, 1 failed"


@needs_x87
def test_a_distance_that_is_one_unit_off_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = next(n for n in range(500) if fuzz.make(n).way == "dot" and " gaussian float" in fuzz.make(n).name)
    honest = fuzz.knn

    def off(*given: Tensor, **more: object) -> tuple[Tensor, Tensor]:
        distances, indices = honest(*given, **more)
        return torch.nextafter(distances, 2 * distances), indices

    assert fuzz.failures(seed) == []
    monkeypatch.setattr(fuzz, "knn", off)
    assert "distances of" in fuzz.failures(seed)[0]


@needs_x87
def test_a_call_that_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = next(n for n in range(500) if fuzz.make(n).way == "knn_mc" and fuzz.make(n).memory < 256 << 20)
    honest = fuzz.knn_mc

    def dawdling(*given: object, max_memory: int) -> Tensor:
        time.sleep(0.5 if max_memory < 256 << 20 else 0.0)
        return honest(*given, max_memory=max_memory)

    monkeypatch.setattr(fuzz, "SPARE", 0.2)
    monkeypatch.setattr(fuzz, "knn_mc", dawdling)
    assert "with m and memory left alone" in fuzz.failures(seed)[0]
