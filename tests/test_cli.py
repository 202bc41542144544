"""The command line explains itself and ends with the right exit code."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import warnings

import pytest

from janelia_core import cli
from janelia_core.commands import options
from janelia_core.extras import MissingExtraError, import_extra
from janelia_core.files.answer.conventions import CONVENTIONS
from janelia_core.files.formats.cast import FLOATS
from janelia_core.files.inputs.metric_names import ALIASES
from janelia_core.ml._knn.metrics.registry import METRICS

COMMANDS = ("search", "radius", "plan", "info", "verify", "warm", "demo")


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_fits_80_columns_and_succeeds(arguments: list[str], capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert "demo" in text if len(arguments) == 1 else f"janelia-knn {arguments[0]}" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing command"),
        (["demo", "--k", "0"], "0 is less than 1"),
        (["demo", "--k", "three"], "'three' is no whole number"),
        (["demo", "--k", "9", "--centres", "8"], "9 neighbours do not exist among 8 centres"),
        (["draw"], "draw"),
        (["serch"], "Did you mean 'search'?"),
        (["plan", "c.npy", "-k3", "--trheads", "1"], "'--threads'"),
        (["plan", "-k3"], "Missing CENTRES"),
        (["verify", "c.npy"], "Missing ANSWER"),
        (
            ["plan", "base.00.fbin", "base.01.fbin", "base.02.fbin", "-k3"],
            "put a pattern such as 'base.*.fbin' in quotes",
        ),
        (
            ["plan", "c.npy", "-k3", "--threads", "1000000"],
            f"1000000 threads are more than this machine's {os.cpu_count()}",
        ),
        (["plan", "c.npy", "-k3", "--threads", "0"], "0 is less than 1"),
        (["info", "c.npy", "--threads", "-2"], "-2 is less than 1"),
        (["verify", "c.npy", "a.npy", "--max-memory", "900000TiB"], "'900000TiB' is more than this machine's memory"),
        (["search", "c.npy", "-k3", "-o", "o.npy", "--metric", "l3"], "'l3' is not one of 'euclidean', "),
    ],
)
def test_a_wrong_argument_ends_with_code_2_and_names_itself_in_one_line(
    arguments: list[str], complaint: str, capsys
) -> None:
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.startswith("janelia-knn")
    assert told.count("\n") == 1


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, janelia_core.cli as cli; sys.exit(cli.main(['search', '--help']) or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_plan_and_info_take_every_option_of_search() -> None:
    of = {name: {param.name for param in command.params} for name, command in cli.command.commands.items()}
    assert of["search"] - of["plan"] == {"resume", "shown"}
    assert of["plan"] <= of["info"]


def test_the_command_offers_what_the_library_knows() -> None:
    """It does not ask: `--help` would wait for torch."""
    assert tuple(METRICS) == options.METRICS
    assert tuple(ALIASES) == options.OTHER_NAMES
    assert tuple(FLOATS) == options.DTYPES
    assert tuple(CONVENTIONS) == options.CONVENTIONS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_options_and_values(shell: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("_JANELIA_KNN_COMPLETE", f"{shell}_complete")
    for words, found in [("ver", "verify"), ("search --thr", "--threads"), ("search --metric cheb", "chebyshev")]:
        monkeypatch.setenv("COMP_WORDS", f"janelia-knn {words}")
        monkeypatch.setenv("COMP_CWORD", words.rpartition(" ")[2] if shell == "fish" else str(words.count(" ") + 1))
        with pytest.raises(SystemExit):
            cli.main([])
        assert found in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize(
    ("signal_", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_a_command_with_its_code_and_no_traceback(
    signal_: signal.Signals, code: int, word: str, capsys, monkeypatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("janelia_core.demo.run.run_demo", lambda *_: signal.raise_signal(signal_))
    assert cli.main(["demo"]) == code
    assert capsys.readouterr().err == f"janelia-knn demo: {word}\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_who_stops_reading_the_output_ends_it_without_a_word(capsys, monkeypatch) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("janelia_core.demo.run.run_demo", gone)
    assert cli.main(["demo"]) == 141
    assert capsys.readouterr().err == ""


def test_help_into_a_closed_pipe_ends_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run([sys.executable, "-m", "janelia_core", "--help"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (run.returncode, run.stderr) == (141, b"")


def test_a_warning_is_one_line(capsys, monkeypatch) -> None:
    monkeypatch.setattr("janelia_core.demo.run.run_demo", lambda *_: warnings.warn("two\n lines", stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.main(["demo"]) == 0
    assert capsys.readouterr().err == "janelia-knn demo: warning: two lines\n"


def test_too_little_memory_is_one_line(capsys, monkeypatch) -> None:
    def grown(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("janelia_core.demo.run.run_demo", grown)
    assert cli.main(["demo"]) == 2
    assert "take a smaller --max-memory" in capsys.readouterr().err


def test_a_missing_package_is_an_error_that_names_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"no_such_package.*pip install 'janelia-core\[demo\]'"):
        import_extra("no_such_package.part", "demo")


def test_a_package_that_breaks_inside_is_not_called_missing(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_inside.py").write_text("import another_missing_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="another_missing_package") as error:
        import_extra("broken_inside", "demo")
    assert not isinstance(error.value, MissingExtraError)
