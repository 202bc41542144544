"""Every example in the README, the documentation, the docstrings and the folder examples/ runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import janelia_core.ml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]  # docs/checks runs the how-tos, which take seconds
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FEWER = {"picture.py": ["5"]}  # steps of training: that it runs is what is tested
MODULES = [name for _, name, _ in pkgutil.iter_modules(janelia_core.ml.__path__) if not name.startswith("_")]


def python_blocks(page: Path) -> str:
    """Return a page's python blocks as one program, each at its line of the page."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * text.count("\n")
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


def documented(module: ModuleType) -> list[doctest.DocTest]:
    """Return the docstring examples of a module and of the public names it hands on."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(module)
    for name, value in vars(module).items():
        source = getattr(value, "__module__", None) or ""
        if not name.startswith("_") and source.startswith("janelia_core.") and source != module.__name__:
            found += finder.find(value, name, module=False, globs=vars(module))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page: Path) -> None:
    exec(compile(python_blocks(page), str(page), "exec"), {"__name__": "__main__"})


def test_the_readme_has_code_and_a_wrong_line_is_reported_at_its_place(tmp_path: Path) -> None:
    assert "knn_mc(" in python_blocks(ROOT / "README.md")
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\na = 1\n```\n\ntext\n\n```python\nassert a == 2\n```\n")
    with pytest.raises(AssertionError) as error:
        exec(compile(python_blocks(page), str(page), "exec"), {})
    assert error.traceback[-1].lineno + 1 == 10


@pytest.mark.parametrize("name", MODULES)
def test_the_docstring_examples_of_a_module_hold(name: str) -> None:
    module = importlib.import_module(f"janelia_core.ml.{name}")
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for test in documented(module):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("name", ["knn_mc", "knn_do", "log_cosh"])
def test_every_documented_function_has_an_example(name: str) -> None:
    module = importlib.import_module("janelia_core.ml.extra_torch_functions")
    assert any(test.name.endswith(name) for test in documented(module))


@pytest.mark.examples
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs_by_itself(example: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", str(example), *FEWER.get(example.name, [])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout
