"""Every how-to runs, each in a process of its own, and all together in less than two minutes."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "how_to"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "index.md")
TOGETHER = 120.0  # seconds of processor time: on a quiet machine a run takes no longer, and a busy one fails no test
taken: dict[str, float] = {}


def spent() -> float:
    """Return the processor time that child processes have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def program(page: Path) -> str:
    """Return a page's python blocks as one program, each at its line of the page."""
    inside, lines = False, []
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            line = ""
        lines.append(line if inside else "")
    return "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_how_to_runs(page: Path, tmp_path: Path) -> None:
    code = program(page)
    assert code.strip()
    before = spent()
    run = subprocess.run(
        [sys.executable, "-c", f"exec(compile({code!r}, {str(page)!r}, 'exec'), {{'__name__': '__main__'}})"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=5 * TOGETHER,
    )
    taken[page.stem] = spent() - before
    assert run.returncode == 0, run.stderr


def test_all_of_them_together_take_less_than_two_minutes() -> None:
    each = " ".join(f"{name} {seconds:.1f}," for name, seconds in taken.items())
    print(f"processor time, seconds: {each} together {sum(taken.values()):.1f}")
    if set(taken) != {page.stem for page in PAGES}:
        pytest.skip("only some of the how-tos were run")
    assert sum(taken.values()) < TOGETHER


def test_a_wrong_line_is_reported_at_its_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\na = 1\n```\n\n```sh\nno python\n```\n\n```python\nassert a == 2\n```\n")
    with pytest.raises(AssertionError) as error:
        exec(compile(program(page), str(page), "exec"), {})
    assert error.traceback[-1].lineno + 1 == 12


def test_every_task_of_the_index_has_code() -> None:
    assert {"edge_conv", "ground_truth", "k_means", "rbf_network", "registration"} <= {page.stem for page in PAGES}
    assert not [page.stem for page in PAGES if not re.search(r"^assert ", program(page), re.MULTILINE)]
