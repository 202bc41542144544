"""progress=True shows how far a search is, and changes nothing else."""

from __future__ import annotations

import pytest
import torch

from janelia_core import extras
from janelia_core.ml import knn
from janelia_core.ml._neighbors import progress


@pytest.mark.parametrize("shape", [(20, 200, 6), (600, 4000, 2), (600, 4000, 30)])  # at once, tree, dense
def test_the_bar_ends_full_and_the_answer_is_the_same(shape, capsys):
    n, n_ctrs, d = shape
    x, ctrs = torch.randn(n, d), torch.randn(n_ctrs, d)
    found, expected = knn(x, ctrs, 3, progress=True), knn(x, ctrs, 3)
    assert torch.equal(found.indices, expected.indices)
    text = capsys.readouterr().err
    assert f"{n}/{n}" in text
    assert "100%" in text


def test_the_bar_moves_while_a_search_runs_and_stands_where_it_failed(monkeypatch, capsys):
    from janelia_core.ml._knn.report import follow_knn

    counts = []
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    real = progress._advance
    monkeypatch.setattr(progress, "_advance", lambda bar, n: (counts.append(n), real(bar, n)))
    x, ctrs = torch.randn(3000, 4), torch.randn(3000, 4)

    def mask(rows, first, last):
        if int(rows.max()) > 2500:
            raise KeyboardInterrupt
        return torch.ones(len(rows), last - first, dtype=torch.bool)

    with follow_knn() as reports, pytest.raises(KeyboardInterrupt):
        knn(x, ctrs, 3, mask=mask, max_memory=1 << 26, progress=True)
    assert len(reports) == 1
    assert counts == sorted(counts)
    assert counts[-1] < 3000
    assert "3000/3000" not in capsys.readouterr().err


def test_without_progress_nothing_is_shown(capsys):
    knn(torch.randn(9, 2), k=2)
    assert capsys.readouterr().err == ""


def test_without_tqdm_the_error_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name=name.partition(".")[0])

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(extras.MissingExtraError, match=r"pip install 'janelia-core\[progress\]'"):
        knn(torch.randn(9, 2), k=2, progress=True)
