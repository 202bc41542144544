"""The recipe for a file format holds: one new file, one line in one table, and everything knows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from janelia_core import cli
from janelia_core.files import (
    VectorFileError,
    formats,
    info_file,
    open_vectors,
    plan_files,
    save_vectors,
    search_files,
    verify_files,
)
from janelia_core.ml.extra_torch_functions import knn_mc
from janelia_core.suffixes import FORMATS

READER = '''
"""`.numbers`: one number a line, so one column."""

import numpy as np

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Format, blocks, first
from janelia_core.files.formats.spool import spooled


def read(path, name, preferred):
    try:
        with path.open() as file:
            return spooled(path, 1, np.dtype("f8"), (np.array([[float(line)]]) for line in file))
    except ValueError as error:
        raise VectorFileError(path, str(error)) from error


def write(path, arrays):
    with path.open("w") as file:
        file.writelines(f"{number!r}\\n" for block in blocks(first(arrays)) for (number,) in block.tolist())


NUMBERS = Format(read, write)
VECTORS_ONLY = Format(read, write, index_bits=0)
INTEGERS_ONLY = Format(read, write, index_bits=8, distances=False)
'''


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file stands in the folder of formats, for one test, and its line in the table."""
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "one_number_a_line.py").write_text(READER)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "formats")])
    monkeypatch.setitem(FORMATS, "numbers", "one_number_a_line:NUMBERS")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    g = torch.Generator().manual_seed(0)
    save_vectors(tmp_path / "c.numbers", torch.randn(50, 1, generator=g, dtype=torch.float64))
    save_vectors(tmp_path / "x.numbers", torch.randn(20, 1, generator=g, dtype=torch.float64))
    return tmp_path


def test_what_is_written_in_the_new_format_is_read_back_and_damage_is_one_line(folder: Path) -> None:
    assert len((folder / "c.numbers").read_text().splitlines()) == 50
    with open_vectors(folder / "c.numbers") as file:
        assert (file.shape, file.dtype) == ((50, 1), torch.float64)
        assert torch.equal(file.take(torch.tensor([49, 7])), file.read(0, 50)[[49, 7]])
    (folder / "x.numbers").write_text("1\ntwo\n")
    with pytest.raises(VectorFileError, match=r"x\.numbers: could not convert"):
        open_vectors(folder / "x.numbers")


def test_files_of_the_new_format_are_searched_planned_described_and_verified(folder: Path) -> None:
    c, x, out = folder / "c.numbers", folder / "x.numbers", folder / "o.npy"
    plan = plan_files(c, x, k=3)
    report = search_files(c, x, k=3, out=out, max_memory="1MiB")
    assert plan.layout.bytes_read == report.bytes_read == 70 * 8
    expected = knn_mc(open_vectors(x).read(0, 20), open_vectors(c).read(0, 50), 3, 50).T
    assert torch.equal(open_vectors(out).read(0, 20), expected)
    assert (info_file(c).format, info_file(c).shape) == ("numbers", (50, 1))
    assert verify_files(c, x, out).all_right


def test_an_answer_and_its_distances_go_to_the_new_format(folder: Path) -> None:
    out, apart = folder / "o.numbers", folder / "d.numbers"
    search_files(folder / "c.numbers", folder / "x.numbers", k=1, out=out, distances=apart)
    assert verify_files(folder / "c.numbers", folder / "x.numbers", out).all_right
    nearest = open_vectors(folder / "c.numbers").take(open_vectors(out).read(0, 20)[:, 0].long())
    gaps = (open_vectors(folder / "x.numbers").read(0, 20) - nearest).abs()
    torch.testing.assert_close(open_vectors(apart).read(0, 20), gaps)


def test_the_command_takes_the_new_format_by_suffix_and_by_name(folder: Path, capsys) -> None:
    plain = (folder / "c.numbers").rename(folder / "c.txt")
    arguments = [f"{plain}", f"{folder}/x.numbers", "--centres-format", "numbers", "-k", "2"]
    assert cli.main(["search", *arguments, "-o", f"{folder}/o.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [20, 2]
    verified = [*arguments[:2], f"{folder}/o.npz", *arguments[2:]]
    assert cli.main(["verify", *verified]) == 0
    assert cli.main(["plan", *arguments]) == 0
    assert cli.main(["info", f"{plain}", "--format", "numbers"]) == 0
    assert f"{plain}: numbers, 50 x 1, torch.float64" in capsys.readouterr().out


def test_help_and_errors_list_the_new_format(folder: Path, capsys) -> None:
    assert cli.main(["search", "--help"]) == 0
    assert " numbers." in " ".join(capsys.readouterr().out.split())
    assert cli.main(["info", f"{folder}/c.xyz"]) == 2
    (folder / "c.xyz").write_text("1\n")
    assert cli.main(["info", f"{folder}/c.xyz"]) == 2
    assert capsys.readouterr().err.count(", numbers") == 1


@pytest.mark.parametrize(
    ("format", "options", "complaint"),
    [
        ("VECTORS_ONLY", {"out": "o.numbers"}, "the format numbers holds vectors, no indices"),
        (
            "INTEGERS_ONLY",
            {"out": "o.npy", "distances": "d.numbers"},
            "the format numbers holds integers, no distances",
        ),
        ("INTEGERS_ONLY", {"out": "o.numbers"}, "the format numbers has int8 only, too small for 150 centres"),
    ],
)
def test_what_the_new_format_cannot_hold_is_refused_before_the_search(
    format: str, options: dict[str, str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(FORMATS, "numbers", f"one_number_a_line:{format}")
    save_vectors("c.npy", torch.arange(150.0)[:, None])
    with pytest.raises(VectorFileError, match=complaint):
        search_files("c.npy", k=1, **options)


def test_without_its_line_the_new_file_is_not_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FORMATS, "numbers")
    with pytest.raises(VectorFileError, match="no format that is known by 'numbers'"):
        open_vectors(folder / "c.numbers")
