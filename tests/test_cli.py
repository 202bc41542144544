"""The command line explains itself and ends with the right exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from janelia_core import cli
from janelia_core.commands import arguments
from janelia_core.extras import MissingExtraError, import_extra
from janelia_core.files.formats.cast import FLOATS
from janelia_core.ml._knn.metrics.registry import METRICS


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in ("search", "plan", "info", "verify", "warm", "demo"))]
)
def test_help_fits_80_columns_and_succeeds(arguments: list[str], capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert "demo" in text if len(arguments) == 1 else f"janelia-knn {arguments[0]}" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "COMMAND"),
        (["demo", "--k", "0"], "0 is less than 1"),
        (["demo", "--k", "three"], "invalid positive integer value: 'three'"),
        (["demo", "--k", "9", "--centres", "8"], "9 neighbours do not exist among 8 centres"),
        (["draw"], "draw"),
    ],
)
def test_a_wrong_argument_ends_with_code_2_and_names_itself(arguments: list[str], complaint: str, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, janelia_core.cli as cli; cli.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_offers_what_the_library_knows() -> None:
    """It does not ask: `--help` would wait for torch."""
    assert tuple(METRICS) == arguments.METRICS
    assert tuple(FLOATS) == arguments.DTYPES


def test_ctrl_c_ends_with_code_130_and_no_traceback(capsys, monkeypatch) -> None:
    def interrupted(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("janelia_core.commands.demo.run", interrupted)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "janelia-knn demo: interrupted\n"


def test_a_missing_package_is_an_error_that_names_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"no_such_package.*pip install 'janelia-core\[demo\]'"):
        import_extra("no_such_package.part", "demo")


def test_a_package_that_breaks_inside_is_not_called_missing(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_inside.py").write_text("import another_missing_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="another_missing_package") as error:
        import_extra("broken_inside", "demo")
    assert not isinstance(error.value, MissingExtraError)
