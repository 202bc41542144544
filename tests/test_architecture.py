"""Imports obey the map of `janelia_core.ml._knn`: stages do not know each other, one file composes them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import janelia_core

PACKAGE = Path(janelia_core.__file__).parent
KNN = "janelia_core.ml._knn"
COMPOSERS = (f"{KNN}.search", f"{KNN}.ladder")  # the small way, and the others
DOOR = f"{KNN}.find"
PARTLY = {  # these compose a few stages, and no more
    f"{KNN}.{name}": {f"{KNN}.{stage}" for stage in stages}
    for name, stages in {
        "merge": ("verify.verify", "settle.settle"),  # of several searches
        "exact_order": ("verify.verify", "settle.settle"),
        "exhaustive": ("verify.verify", "screens.portable.screen"),
    }.items()
}


def is_stage(module: str) -> bool:
    """A stage does one step of the pipeline: a screen, verify or settle."""
    name = module.removeprefix(f"{KNN}.")
    return re.fullmatch(r"screens\.\w+\.screen|verify\.verify|settle\.settle|small\.at_once", name) is not None


def import_graph(package: Path) -> dict[str, set[str]]:
    """Return, for every module of a package, the modules of that package that it imports anywhere."""
    paths = {path.relative_to(package.parent).with_suffix("").parts: path for path in package.rglob("*.py")}
    files = {".".join(parts).removesuffix(".__init__"): path for parts, path in paths.items()}
    return {
        module: {name for name in _imports(module, path) if name in files and name != module}
        for module, path in files.items()
    }


def _imports(module: str, path: Path) -> set[str]:
    parent = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = parent.split(".")[: len(parent.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from package import name` may name a module
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def violations(graph: dict[str, set[str]]) -> list[str]:
    """Return every import that the map forbids: of a stage or of the composer, but by the right file."""
    return [
        f"{module} imports {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if (is_stage(target) and module not in COMPOSERS and target not in PARTLY.get(module, ()))
        or (target in COMPOSERS and module.startswith(f"{KNN}.") and module not in (*COMPOSERS, DOOR))
    ]


def test_only_search_and_ladder_know_all_stages_and_three_files_a_few_of_them() -> None:
    assert violations(import_graph(PACKAGE)) == []


def test_no_import_runs_in_a_circle() -> None:
    TopologicalSorter(import_graph(PACKAGE)).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("settle/settle.py", "from janelia_core.ml._knn.verify.verify import distances"),
        ("verify/verify.py", "from ..screens.tree import screen"),
        ("screens/tree/screen.py", "import janelia_core.ml._knn.settle.settle as s"),
        ("arithmetic/bounds.py", "def f():\n    from ..screens.tree.screen import g"),
        ("merge.py", "from .screens.tree.screen import TreeScreen"),
        ("plan/plan.py", "from janelia_core.ml._knn import search"),
    ],
)
def test_a_planted_import_across_the_walls_is_caught(tmp_path: Path, file: str, line: str) -> None:
    root = tmp_path / "janelia_core" / "ml" / "_knn"
    for name in ("search", "verify/verify", "settle/settle", "screens/tree/screen", "arithmetic/bounds", "plan/plan"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.py").write_text("")
        (root / name).with_name("__init__.py").write_text("")
    (root / "screens" / "__init__.py").write_text("")
    (root / "search.py").write_text("from .arithmetic import bounds\nfrom .settle import settle\nimport janelia_core")
    assert violations(import_graph(tmp_path / "janelia_core")) == []
    (root / file).write_text(line)
    assert len(violations(import_graph(tmp_path / "janelia_core"))) == 1


def test_a_planted_circle_is_caught(tmp_path: Path) -> None:
    folder = tmp_path / "janelia_core"
    folder.mkdir()
    (folder / "a.py").write_text("from .b import x")
    (folder / "b.py").write_text("import janelia_core.a")
    with pytest.raises(CycleError):
        TopologicalSorter(import_graph(folder)).prepare()


def test_importing_brings_in_nothing_heavier_than_torch() -> None:
    module = "janelia_core.ml.extra_torch_functions"  # which imports janelia_core.ml first
    heavy = {"numba", "llvmlite", "scipy", "sklearn", "matplotlib", "pandas", "triton"}
    code = f"import sys, torch; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(name.partition(".")[0] for name in run.stdout.split())


def breaches_of_simd(graph: dict[str, set[str]]) -> list[str]:
    """Return every import of what emits LLVM outside of `_simd`, and in `_simd` of anything but `_runtime`."""
    ml = "janelia_core.ml"
    at_home = {module: f"{module}.".startswith(f"{ml}._simd.") for module in graph}
    own = re.compile(rf"{ml}\._(simd|runtime)(\.|$)")
    return [
        f"{module} imports {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if (re.match(r"llvmlite(\.|$)|numba\.(extending\.intrinsic|core\.cgutils)$", target) and not at_home[module])
        or (at_home[module] and target.startswith("janelia_core.") and not own.match(target))
    ]


def all_imports(package: Path) -> dict[str, set[str]]:
    """Return, for every module of a package, all modules and names that it imports anywhere."""
    found = {}
    for path in package.rglob("*.py"):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        found[module] = _imports(module, path)
    return found


def test_only_simd_emits_llvm_and_it_knows_nothing_but_the_runtime() -> None:
    assert breaches_of_simd(all_imports(PACKAGE)) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("_knn/screens/tree/lists.py", "import llvmlite.ir"),
        ("_knn/__init__.py", "from llvmlite.ir import IntType"),
        ("_knn/settle/kernels.py", "from numba.extending import intrinsic"),
        ("_runtime/jit.py", "def f():\n    from llvmlite import ir"),
        ("_simdlike.py", "import llvmlite as l"),
        ("_simd/bits.py", "from janelia_core.ml._knn.contract import Candidates"),
        ("_simd/bits.py", "import janelia_core.ml._ordinary"),
        ("_simd/bits.py", "from .._knn import contract"),
    ],
)
def test_a_planted_emission_elsewhere_is_caught(tmp_path: Path, file: str, line: str) -> None:
    root = tmp_path / "janelia_core" / "ml"
    for name in ("_simd/emit.py", file):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / "_simd" / "emit.py").write_text("from llvmlite import ir\nfrom janelia_core.ml._runtime.jit import jit\n")
    assert breaches_of_simd(all_imports(root.parent)) == []
    (root / file).write_text(line)
    assert breaches_of_simd(all_imports(root.parent)) != []
