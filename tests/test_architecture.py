"""Imports obey the walls between rooms: screens and stages do not know each other, a few files compose them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import janelia_core

PACKAGE = Path(janelia_core.__file__).parent
ROOT = "janelia_core"
KNN = f"{ROOT}.ml._knn"
RUNTIME, SIMD = f"{ROOT}.ml._runtime", f"{ROOT}.ml._simd"
WORDS = [
    f"{KNN}.{name}" for name in ("contract", "problem", "metrics", "rows", "answers", "report", "arithmetic", "data")
]
BELOW = [RUNTIME, SIMD, *WORDS]
SCREENS = f"{KNN}.screens"
OF_ALL_SCREENS = [
    f"{SCREENS}.{name}"
    for name in ("contract", "keeping", "output", "ready", "rerank", "row_by_row", "rungs", "suited")
]
SIZES = [f"{KNN}.plan.plan", f"{KNN}.plan.demand"]
STAGES = [f"{KNN}.verify", f"{KNN}.settle", f"{KNN}.small", f"{KNN}.distances"]
ORDERS = [f"{KNN}.exact_order", f"{KNN}.exhaustive", f"{KNN}.fold"]

MAY_IMPORT: dict[str, list[str]] = {
    RUNTIME: [],
    SIMD: [RUNTIME],
    f"{ROOT}.ml._log_cosh": [RUNTIME, f"{ROOT}.ml._ordinary"],
    **dict.fromkeys(WORDS, BELOW),
    f"{KNN}.report": [*BELOW, f"{KNN}.plan.plan"],
    f"{KNN}.plan": BELOW,
    **{name: [*BELOW, *OF_ALL_SCREENS, *SIZES] for name in OF_ALL_SCREENS},
    SCREENS: [*BELOW, *OF_ALL_SCREENS, *SIZES],
    # what verifies lists on a GPU, and ranks them
    f"{SCREENS}.sorted": [*BELOW, *OF_ALL_SCREENS, *SIZES, f"{KNN}.settle.kernels"],  # runs of near-ties, likewise
    **{stage: [*BELOW, f"{KNN}.plan"] for stage in STAGES},
    f"{KNN}.verify": [*BELOW, f"{KNN}.settle.kernels"],  # runs of two or three near-ties, in the same loop
    f"{KNN}.distances": [*BELOW, f"{KNN}.plan", f"{KNN}.verify"],
    f"{KNN}.clouds": [*BELOW, f"{KNN}.plan", f"{KNN}.settle.kernels"],
    f"{KNN}.reference": BELOW,
    f"{KNN}.exact_order": [*BELOW, *STAGES],
    f"{KNN}.exhaustive": [*BELOW, *STAGES, f"{KNN}.exact_order", f"{KNN}.plan", *OF_ALL_SCREENS],
    f"{KNN}.fold": [*BELOW, f"{KNN}.exact_order", f"{KNN}.plan", *OF_ALL_SCREENS],
    f"{KNN}.choose": [*BELOW, f"{KNN}.plan", SCREENS, f"{KNN}.small.cost"],
    f"{KNN}.meet": [*BELOW, *OF_ALL_SCREENS, f"{SCREENS}.portable", f"{KNN}.plan", f"{KNN}.choose"],
    f"{KNN}.ladder": [*BELOW, *OF_ALL_SCREENS, *STAGES, *ORDERS, f"{KNN}.meet"],
    f"{KNN}.asking": [*BELOW, *OF_ALL_SCREENS, f"{KNN}.plan"],
    f"{KNN}.search": [*BELOW, *OF_ALL_SCREENS, *STAGES, *ORDERS]
    + [f"{KNN}.{name}" for name in ("plan", "asking", "choose", "meet", "ladder")],
    f"{KNN}.kept": [*BELOW, *OF_ALL_SCREENS, f"{KNN}.plan", f"{KNN}.choose", f"{KNN}.meet"],
    f"{KNN}.meanwhile": [*BELOW, f"{KNN}.plan", f"{KNN}.choose", f"{KNN}.search", f"{KNN}.verify"],
    f"{KNN}.find": [*BELOW, f"{KNN}.plan", f"{KNN}.choose", f"{KNN}.search", f"{KNN}.kept", f"{KNN}.meanwhile"],
    # searches in little
    f"{KNN}.brief": [*BELOW, *[f"{KNN}.{name}" for name in ("choose", "verify", "small")]]
    + [f"{SCREENS}.{name}" for name in ("direct", "codebook")],
    f"{KNN}.among": [*BELOW, f"{KNN}.verify", f"{KNN}.settle", f"{KNN}.find", f"{KNN}.kept"],
    f"{KNN}.radius": [*BELOW, *OF_ALL_SCREENS, f"{KNN}.verify", f"{KNN}.exact_order", f"{KNN}.kept", f"{KNN}.among"]
    + [
        f"{KNN}.{name}"
        for name in ("plan", "asking", "choose", "meet", "meanwhile", "settle.kernels", "screens.portable")
    ],
    f"{KNN}.trial": [*BELOW, f"{KNN}.plan"] + [f"{KNN}.{name}" for name in ("choose", "find", "meanwhile", "search")],
    f"{KNN}.merge": [*BELOW, *STAGES, f"{KNN}.find", f"{KNN}.reference"],
    f"{KNN}.face": [*BELOW, f"{KNN}.plan", f"{ROOT}.ml._ordinary"],
    f"{ROOT}.sklearn": [f"{ROOT}.extras", f"{ROOT}.ml.index"],
    f"{ROOT}.compat": [f"{ROOT}.ml.index", f"{ROOT}.ml.neighbors", f"{ROOT}.durable"],
    f"{ROOT}.ml._index.stored": [RUNTIME, f"{ROOT}.durable", f"{ROOT}.positioned"],
}
"""What a room may import, beside itself: the longest name counts that a module begins with."""


def all_imports(package: Path) -> dict[str, set[str]]:
    """Return, for every module of a package, all modules and names that it imports anywhere."""
    found = {}
    for path in package.rglob("*.py"):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        found[module] = _imports(module, path)
    return found


def import_graph(package: Path) -> dict[str, set[str]]:
    """Return the same of modules of that package alone."""
    found = all_imports(package)
    return {module: {name for name in names if name in found and name != module} for module, names in found.items()}


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


def within(module: str, rooms: Iterable[str]) -> str:
    """Return the longest of the rooms in which a module stands, or nothing."""
    return max((room for room in rooms if f"{module}.".startswith(f"{room}.")), key=len, default="")


def violations(graph: dict[str, set[str]]) -> list[str]:
    """Return every import that the walls forbid; a screen is a room of its own."""
    found = []
    for module, targets in sorted(graph.items()):
        room = within(module, MAY_IMPORT)
        own = ".".join(module.split(".")[:5]) if room == SCREENS else room
        # `from folder import file` names both
        files = [one for one in targets if not any(other.startswith(f"{one}.") for other in targets)]
        for target in sorted(files):
            if room and not within(target, [own, *MAY_IMPORT[room]]):
                found.append(f"{module} imports {target}")
    return found


def test_no_import_crosses_a_wall() -> None:
    assert violations(import_graph(PACKAGE)) == []


def test_every_room_of_the_search_has_walls() -> None:
    assert [
        module for module in import_graph(PACKAGE) if module.startswith(f"{KNN}.") and not within(module, MAY_IMPORT)
    ] == []


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
        ("search.py", "from .screens.tree import screen"),
        ("screens/dense/screen.py", "from ..tree import screen"),
        ("screens/tree/screen.py", "from janelia_core.ml._knn import ladder"),
        ("../_simd/bits.py", "from janelia_core.ml._knn.contract import Candidates"),
        ("../_simd/bits.py", "import janelia_core.ml._ordinary"),
        ("../_simd/bits.py", "from .._knn import contract"),
    ],
)
def test_a_planted_import_across_the_walls_is_caught(tmp_path: Path, file: str, line: str) -> None:
    root = tmp_path / "janelia_core" / "ml" / "_knn"
    ours = ("contract", "arithmetic/bounds", "verify/verify", "settle/settle", "plan/plan", "ladder", "search")
    for name in (*ours, "screens/tree/screen", "screens/dense/screen", "../_simd/bits", "../_ordinary"):
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


def test_the_code_repeats_the_steps_of_a_call_as_the_page_tells_them() -> None:
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    life = page.partition("## The life of a call")[2].partition("\n## ")[0]
    told = {int(n): words.lower() for n, words in re.findall(r"^(\d+)\. \*\*(.+?)\*\*", life, re.MULTILINE)}
    found = [
        (int(n), words.strip().lower())
        for path in PACKAGE.rglob("*.py")
        for n, words in re.findall(r"# Step (\d+): (.+)", path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted(told.items())
    assert list(told) == list(range(1, len(told) + 1))


def test_importing_brings_in_nothing_heavier_than_torch() -> None:
    module = "janelia_core.ml.extra_torch_functions"  # which imports janelia_core.ml first
    heavy = {"numba", "llvmlite", "scipy", "sklearn", "matplotlib", "pandas", "triton"}
    code = f"import sys, torch; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(name.partition(".")[0] for name in run.stdout.split())


def test_ports_need_nothing_of_the_libraries_that_they_stand_for() -> None:
    imports = all_imports(PACKAGE)
    ports = {module for module in imports if module.startswith(f"{ROOT}.compat.")}
    named = {name.partition(".")[0] for port in ports for name in imports[port]}
    assert len(ports) == 4
    assert named - set(sys.stdlib_module_names) == {ROOT, "numpy", "torch"}


def emissions_elsewhere(imports: dict[str, set[str]]) -> list[str]:
    """Return every import of what emits LLVM outside of `_simd`."""
    emits = re.compile(r"llvmlite(\.|$)|numba\.(extending\.intrinsic|core\.cgutils)$")
    return [
        f"{module} imports {target}"
        for module, targets in sorted(imports.items())
        for target in sorted(targets)
        if emits.match(target) and not within(module, [SIMD])
    ]


def test_only_simd_emits_llvm() -> None:
    assert emissions_elsewhere(all_imports(PACKAGE)) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("_knn/screens/tree/walk.py", "import llvmlite.ir"),
        ("_knn/__init__.py", "from llvmlite.ir import IntType"),
        ("_knn/settle/kernels.py", "from numba.extending import intrinsic"),
        ("_runtime/jit.py", "def f():\n    from llvmlite import ir"),
        ("_simdlike.py", "import llvmlite as l"),
    ],
)
def test_a_planted_emission_elsewhere_is_caught(tmp_path: Path, file: str, line: str) -> None:
    root = tmp_path / "janelia_core" / "ml"
    for name in ("_simd/emit.py", file):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / "_simd" / "emit.py").write_text("from llvmlite import ir\nfrom janelia_core.ml._runtime.jit import jit\n")
    assert emissions_elsewhere(all_imports(root.parent)) == []
    (root / file).write_text(line)
    assert emissions_elsewhere(all_imports(root.parent)) != []
