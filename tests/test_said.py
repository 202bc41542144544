"""What is said is true: names in docstrings, comments and pages exist, and numbers in prose are those of the code."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.metadata
import io
import keyword
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path

import pytest
import torch

import janelia_core
from janelia_core import cli
from janelia_core.ml._knn.arithmetic import angles, double_double, sines
from janelia_core.ml._knn.arithmetic.bounds import OUTWARD, UNIT64, DistanceBound, gamma
from janelia_core.ml._knn.data import directions, points
from janelia_core.ml._knn.metrics import dot
from janelia_core.ml._knn.metrics.cosine import Cosine
from janelia_core.ml._knn.metrics.dot import Dot
from janelia_core.ml._knn.screens.portable import packing

ROOT = Path(__file__).parents[1]
PACKAGE = Path(janelia_core.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
DOCS = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "how_to").glob("*.md"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
ELSEWHERE = {"torch", "numba", "numpy", "scipy", "nn", "np", "tempfile"}  # heads of names that others own
THEIRS = {"Function.apply", "handle_torch_function", "kneighbors_graph", "to_pandas_dtype", "OUT.unfinished"}
THEIR_FILES = {"benchmark/dataset_io.py"}  # of the repository that big-ann-benchmarks.com tells of


@lru_cache(maxsize=2)  # what is asked of a file is asked in a row; trees of all files would fill the memory
def code_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def prose(path: Path) -> list[str]:
    """Return the docstrings and comments of a file."""
    return list(_prose(path))


def _prose(path: Path) -> Iterator[str]:
    for node in ast.walk(code_of(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def names_in(tree: ast.AST) -> set[str]:
    """Return every name that code uses or defines, parts of what it spells as text included."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # prose proves nothing
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            value = getattr(node, field, None)
            names |= set(value.split(".")) if isinstance(value, str) else set()
    return names


def texts_in(path: Path) -> str:
    """Return all that a file has beside docstrings and comments."""
    said = set(prose(path))
    return " ".join(
        node.value
        for node in ast.walk(code_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in said
    )


@cache
def defined() -> dict[str, set[str]]:
    """Return what modules, by the last part of their name, and classes define; "" for all of them together."""
    found: dict[str, set[str]] = {"": set(dir(builtins))}
    for path in SOURCES:
        tree = code_of(path)
        stem = path.parent.name if path.name == "__init__.py" else path.stem
        found.setdefault(stem, set()).update(names_in(tree))
        found[""] |= {stem}
        found.setdefault(path.parent.name, set()).add(stem)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found[""].add(node.name)
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(names_in(node))
                found[""] |= {field.target.id for field in node.body if isinstance(field, ast.AnnAssign)}
                found[""] |= {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute) and _own(one)}
        found[""] |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id.isupper()}
    return found


def _own(node: ast.Attribute) -> bool:
    """Tell whether an attribute is one that an object gives itself."""
    return isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"


def untrue_names(text: str, own: set[str]) -> list[str]:
    """Return the names in backticks of a text that are neither the file's own nor defined anywhere in the package."""
    found = []
    for quoted in re.findall(r"(?<!`)`([A-Za-z_][\w.]*)(?:\(\))?`(?!`)", text):
        head, *rest = quoted.split(".")
        if rest == ["py"] or head in ELSEWHERE or quoted in THEIRS or keyword.iskeyword(quoted):
            continue
        if not rest:
            known = head in own or head in defined()[""] or hasattr(torch.nn.Module, head)
        elif head == "janelia_core":
            known = resolves(quoted)
        else:
            known = rest[-1] in defined()[head] if head in defined() else {head, *rest} <= own
        if not known:
            found.append(quoted)
    return found


def resolves(dotted: str) -> bool:
    """Tell whether a full name is that of a module or of something in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        return all(hasattr(found, name) and (found := getattr(found, name)) is not None for name in parts[length:])
    return False


def files_named(text: str) -> set[str]:
    """Return the names of files with a suffix of ours in a text, with the folders that are given."""
    found = set(re.findall(r"(?<![\w/.*<{-])((?:[\w.-]+/)*[\w-]+\.(?:py|md|toml|png))(?![\w(])", text))
    return found - THEIR_FILES


@cache
def tree() -> list[str]:
    """Return the files of the repository, as they are named from its root."""
    skipped = {".git", ".venv", "__pycache__"}
    return [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*")
        if not skipped & set(path.parts) and path.is_file()
    ]


def exists(name: str) -> bool:
    """Tell whether a file is in the tree, named by as much of its path as is given."""
    own = name.removeprefix("../")
    return any(file == own or file.endswith(f"/{own}") for file in tree())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_names_in_docstrings_and_comments_exist(path: Path) -> None:
    own = names_in(code_of(path)) | set(re.findall(r"\w+", texts_in(path)))
    assert [name for text in prose(path) for name in untrue_names(text, own)] == []
    assert [name for text in prose(path) for name in files_named(text) if not exists(name)] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("as `Cosine.pair_value` does", ["Cosine.pair_value"]),
        ("See `values_of_pairs`, as for the next", ["values_of_pairs"]),
        ("`janelia_core.ml.knn_graphs`", ["janelia_core.ml.knn_graphs"]),
        ("`Frame.exactly` tells", ["Frame.exactly"]),
        ("`Cosine.pair_values`, `DistanceBound.of`, `torch.mm`, `janelia_core.ml.knn`, `own`", []),
    ],
)
def test_a_name_that_does_not_exist_is_caught(text: str, wrong: list[str]) -> None:
    assert untrue_names(text, {"own"}) == wrong


def test_a_file_that_does_not_exist_is_caught() -> None:
    assert {
        name for name in files_named("See `sums.py`, docs/speed.md and _knn/piecewise.py.") if not exists(name)
    } == {"_knn/piecewise.py"}


@cache
def maps() -> list[Path]:
    """Return the files whose docstring is a map of their folder."""
    heads = {path: (ast.get_docstring(code_of(path)) or "\n").splitlines()[0] for path in SOURCES}
    return [path for path, head in heads.items() if head.endswith("the map.")]


def entries(text: str) -> set[str]:
    """Return what stands in the columns of a map: cells of one name, of several with commas, or in front of a colon."""
    found: set[str] = set()
    for line in text.splitlines()[1:]:
        for cell in re.split(r"\s{2,}|[|]", line):
            names = re.sub(r"(?<!:):(?!:).*|\.py$", "", cell.strip()).removesuffix(",")
            if re.fullmatch(r"[a-z_]\w+(, [a-z_]\w+)*", names):
                found |= set(names.split(", "))
    return found


FOLDERS = sorted({path.parent for path in SOURCES})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(PACKAGE.parent).as_posix())
def test_every_folder_has_a_map_which_names_its_files_and_folders_and_no_others(folder: Path) -> None:
    assert folder / "__init__.py" in maps()
    text = ast.get_docstring(code_of(folder / "__init__.py")) or ""
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    folders = {path.parent.name for path in folder.glob("*/__init__.py")}
    functions = {node.name for name in files for node in code_of(folder / f"{name}.py").body if hasattr(node, "name")}
    assert (files | folders) - set(re.findall(r"\w+", text)) == set()
    assert entries(text) - files - folders - functions == set()


def test_a_file_too_many_in_a_map_is_seen() -> None:
    planted = "The map.\n\nsearch      one thing       helper, other\npiecewise   another thing   the rest\n"
    assert entries(planted) == {"search", "helper", "other", "piecewise"}


def is_made(page: Path, link: str) -> bool:
    """Tell whether a link leads to a page of auto/, made of a program or of the README of their folder."""
    made = re.fullmatch(r".*/docs/auto/(\w+)/(\w+)", (page.parent / link).resolve().as_posix())
    source = made and ("README.rst" if made[2] == "index" else f"{made[2]}.py")
    return made is not None and (ROOT / "docs" / made[1] / str(source)).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_files_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose_only = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r"^```\{include\} (\S+)", text, re.MULTILINE)
    here = [link for link in links if "://" not in link and not link.startswith("api/")]
    assert [link for link in here if not (page.parent / link).exists() and not is_made(page, link)] == []
    shown = {name for quoted in re.findall(r"`([^`\n]+)`", prose_only) for name in files_named(quoted)}
    assert {name for name in shown if not exists(name) and not exists(f"janelia_core/{name}")} == set()


def power(value: float) -> int:
    """Return e of 2^e."""
    top, bottom = value.as_integer_ratio()
    assert 1 in (top, bottom)
    assert (top & (top - 1)) == (bottom & (bottom - 1)) == 0
    return top.bit_length() - bottom.bit_length()


def beyond(error: Callable[[int], float], each: int = 1, unit: float = UNIT64) -> int:
    """Return a where error(d) is gamma(each d + a), but for the few units that pay for evaluating it."""
    likely = [a for a in range(100) if all(error(d) == gamma(each * d + a, unit) for d in (1, 7, 300))]
    assert len(likely) == 1
    return likely[0]


SAID: list[tuple[str, Callable[[], int]]] = [
    (r"where \$g = \\gamma_\{d\+(\d+)\}\$ in float32", lambda: packing.n_columns(7) - 7),
    (r"coordinates\s+below \$2\^\{(-\d+)\}\$ become zero", lambda: power(packing.FLUSH)),
    (r"cut to (\d+) significant bits", lambda: packing.CUT_BITS),
    (r"beforehand and \$2\^\{(\d+)\}\$ becomes", lambda: packing.FULL_BITS),
    (r"becomes \$2\^\{?(\d+)\}?\$; residuals", lambda: packing.CUT_BITS),
    (r"relative\s+error of at most \$\\gamma_\{d\+(\d+)\}\$", lambda: beyond(directions.direction_error)),
    (
        r"so \$\|\\hat D - D\| \\le \\gamma_\{d\+(\d+)\} D\$",
        lambda: beyond(lambda d: (DistanceBound.of(d, False).relative - 8 * UNIT64) / 2),
    ),
    (r"at most\s+\$\\gamma_\{d\+(\d+)\} \\sum_q", lambda: beyond(lambda d: Dot().bound(d)[0] / OUTWARD)),
    (
        r"\]\$\), plus \$2\^\{(-\d+)\}\$ a coordinate",
        lambda: power(Dot().bound(2)[1] - Dot().bound(1)[1]),
    ),
    (r"at most \$\\gamma_\{2d\+(\d+)\}\$ in all", lambda: beyond(lambda d: Cosine().bound(d)[1], each=2)),
    (r"norms lie in\s+\$\[2\^\{(-\d+)\}, 2", lambda: power(dot.LEAST_SQUARE)),
    (r"norms lie in\s+\$\[2\^\{-\d+\}, 2\^\{(\d+)\}\]", lambda: power(dot.LARGEST_SQUARE)),
    (r"a relative\s+\$2\^\{(-\d+)\}\$", lambda: power(double_double._UNIT)),
    (r"within \$2\^\{(-\d+)\}\$ times themselves", lambda: power(sines.SINE_ERROR)),
    (r"angles within\s+\$3 \\cdot 2\^\{(-\d+)\}\$", lambda: power(angles.ANGLE_ERROR / 3)),
    (r"scaled by \$2\^\{(\d+)\}\$ in float64", lambda: power(_scaled(1.0))),
    (r"beside values above \$2\^\{(\d+)\}\$ are then", lambda: 1023 - power(_scaled(1.0))),
]
"""What docs/exactness.md says with a number, and the number of the code."""


def _scaled(value: float) -> float:
    """Return what becomes of a value, in a thread that flushes subnormals, where one is beside it."""
    one = torch.tensor([[value, 5e-324]], dtype=torch.float64)
    return float(points.without_subnormals(one, one)[0][0, 0])


@pytest.mark.parametrize(("said", "number"), SAID, ids=[said for said, _ in SAID])
def test_a_number_in_the_proofs_is_that_of_the_code(said: str, number: Callable[[], int]) -> None:
    found = re.findall(said, (ROOT / "docs" / "exactness.md").read_text(encoding="utf-8"))
    assert [int(one) for one in found] == [number()]


def test_numbers_in_the_heads_of_metrics_are_those_of_their_code() -> None:
    metrics = PACKAGE / "ml" / "_knn" / "metrics"
    of_dot, of_cosine = (ast.get_docstring(code_of(metrics / name)) or "" for name in ("dot.py", "cosine.py"))
    quoted = {int(a) for a in re.findall(r"gamma\(d \+ (\d+)\)", of_dot)}
    assert max(quoted) == beyond(lambda d: Dot().bound(d)[0] / OUTWARD)  # smaller ones are steps towards it
    assert {int(a) for a in re.findall(r"gamma\(2 d \+ (\d+)\)", of_cosine)} == {
        beyond(lambda d: Cosine().bound(d)[1], each=2)
    }


def test_the_version_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert 'dynamic = ["version"]' in PYPROJECT
    assert not re.search(r"^version = ", PYPROJECT, re.MULTILINE)
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", janelia_core.__version__)
    assert importlib.metadata.version("janelia-core") == janelia_core.__version__
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"janelia-core {janelia_core.__version__}\n"


def test_the_package_runs_as_the_command() -> None:
    for arguments in (["--help"], ["search", "--help"]):
        run = subprocess.run([sys.executable, "-m", "janelia_core", *arguments], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith(f"Usage: janelia-knn{'' if len(arguments) == 1 else ' search'}")


def urls() -> dict[str, str]:
    section = re.search(r"^\[project\.urls\]\n(.*?)\n\n", PYPROJECT, re.MULTILINE | re.DOTALL)
    assert section is not None
    return dict(re.findall(r'^(\w+) = "(\S+)"$', section[1], re.MULTILINE))


def test_links_of_the_readme_are_absolute_and_lead_to_files_of_the_tree() -> None:
    """A package index shows the README without the tree around it."""
    repository = urls()["Repository"]
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("https://")] == []
    own = [link.removeprefix(repository) for link in [*links, *urls().values()] if link.startswith(repository)]
    assert len(own) > 5
    for link in own:
        kind, _, name = link.removeprefix("/").partition("/main/")
        assert kind in ("", "issues") or (kind in ("blob", "tree", "raw") and (ROOT / name).exists()), link
        assert kind != "blob" or (ROOT / name).is_file(), link


def shipped() -> list[str]:
    """Return what an sdist holds: pyproject.toml, and what this tells to include, files and folders."""
    section = re.search(
        r"^\[tool.hatch.build.targets.sdist\]\ninclude = \[(.*?)\]", PYPROJECT, re.MULTILINE | re.DOTALL
    )
    assert section is not None
    roots = ["pyproject.toml", *(name.removeprefix("/") for name in re.findall(r'"([^"]+)"', section[1]))]
    return [file for file in tree() if any(file == root or file.startswith(f"{root}/") for root in roots)]


def test_a_source_distribution_holds_what_pages_tests_and_tools_name() -> None:
    held = shipped()
    pages = {name for page in PAGES for name in files_named(page.read_text(encoding="utf-8"))}
    tests = {
        name
        for path in (*(ROOT / "tests").glob("*.py"), *(ROOT / "tools").glob("*.py"))
        for line in re.findall(r'(?:ROOT|parents\[1\])((?: / "[\w.]+")+)', path.read_text(encoding="utf-8"))
        for name in ["/".join(re.findall(r'"([\w.]+)"', line))]
    }
    assert {"docs/exactness.md", "pyproject.toml", "README.md", "tools"} <= tests
    wanted = {name.removeprefix("../") for name in pages | tests if exists(name) or (ROOT / name).is_dir()}
    lacking = [name for name in wanted if not any(f"/{file}/".find(f"/{name}/") >= 0 for file in held)]
    assert lacking == []


def test_an_image_left_out_of_a_source_distribution_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PYPROJECT", PYPROJECT.replace('"/benchmarks",', ""))
    with pytest.raises(AssertionError, match="benchmarks/"):
        test_a_source_distribution_holds_what_pages_tests_and_tools_name()
