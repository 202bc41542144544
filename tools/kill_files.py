"""Kill searches of files at random moments, resume them, and compare their answers with those of undisturbed runs.

`python tools/kill_files.py --kills 50 --seed 0` draws inputs, options and moments at random, and ends with 1 if a
resumed run fails, gives other bytes, or leaves anything behind. One process imports torch; its children run
`janelia-knn search` or `verify_files`, and are killed by SIGKILL. Between two runs inputs are touched, and the memory
differs. Inputs are files of many formats, packed ones and patterns of several files; some searches go by labels; names
of answers may be as long as names can be, or links. Needs a system with fork.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from janelia_core import cli  # noqa: E402
from janelia_core.files import plan_files, save_vectors, search_files, verify_files  # noqa: E402
from janelia_core.sizes import parse_rows  # noqa: E402
from janelia_core.suffixes import NAMED  # noqa: E402

os.environ.setdefault("JANELIA_CORE_KERNELS", "wait")  # loaded before the forks, by the undisturbed run
INPUTS = ("npy", "fvecs", "fbin", "npz", "csv", "hdf5", "parquet", "pt", "safetensors", "arrow", "fbin.gz", "*.fbin")
ANSWERS = ("npy", "npz", "ivecs", "ibin", "bin", "hdf5", "pt", "safetensors", "parquet", "arrow", "csv", *NAMED)
CONVENTIONS = {"euclidean": "faiss", "sqeuclidean": "big-ann", "cosine": "diskann", "dot": "faiss"}
LABELS = ("txt", "npy", "spmat")
LONGEST = 255  # bytes of a name
METRICS = ("euclidean", "sqeuclidean", "cosine", "dot")  # others take kernels that are long to compile
STEPS = (30, 150)  # at least, and at most about so many
LEAST, MOST = 40 << 10, 4 << 20  # bytes of --max-memory


class Job(NamedTuple):
    """What is run, killed and run again.

    Attributes:
        words: What it is, for messages.
        run: Called with the file that the answer goes to, whether to resume, and a factor of the memory.
        files: Names of what it makes, the first being the answer.
        inputs: Files that may be touched.
    """

    words: str
    run: Callable[[Path, bool, float], int]
    files: tuple[str, ...]
    inputs: tuple[Path, ...]


def main() -> int:
    """Kill until there were enough kills, and say what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)  # threads do not outlive a fork
    draw = random.Random(asked.seed)
    kills = between = jobs = failures = 0
    while kills < asked.kills:
        with tempfile.TemporaryDirectory() as folder:
            job = drawn(draw, Path(folder))
            if job is None:
                continue
            died, kept, wrong = tried(job, draw, Path(folder))
        kills, between, jobs, failures = kills + died, between + kept, jobs + 1, failures + bool(wrong)
        print(
            f"{'FAILED: ' + wrong if wrong else 'ok'}: {died} kills, {kept} with steps to go on from: {job.words}",
            flush=True,
        )
    print(f"{kills} kills of {jobs} runs, {between} with finished steps; {failures} runs failed")
    return int(failures > 0)


def drawn(draw: random.Random, folder: Path) -> Job | None:
    """Draw a search, or a check of an answer; None where no memory gives enough steps."""
    generator = torch.Generator().manual_seed(draw.randrange(1 << 30))
    d = draw.choice((2, 5, 16))
    values = torch.randn(draw.randrange(1500, 4000), d, generator=generator)
    if draw.random() < 0.5:
        values = (values * 3).round()  # near-ties and ties
    alone = draw.random() < 0.3
    rows = torch.randn(draw.randrange(300, 1500), d, generator=generator)
    inputs = [saved(folder, "c", draw.choice(INPUTS), values)]
    if not alone:
        inputs.append(saved(folder, "x", draw.choice(INPUTS), rows))
    options: dict[str, object] = {"k": draw.randrange(1, 12), "metric": draw.choice(METRICS)}
    if draw.random() < 0.3:
        options["dtype"] = draw.choice(("float16", "float64"))
    for name, most in (("rows", 1500 if alone else 300), ("ctr_rows", 1500)):
        if draw.random() < 0.3:
            start = draw.randrange(most // 4)
            options[name] = f"{start}:{draw.randrange(most // 2, most)}"
    if draw.random() < 0.35:
        suffix, distinct = draw.choice(LABELS), draw.choice((3, 40))
        counts = len(values), len(values) if alone else len(rows)
        options["labels"] = tuple(labelled(folder, f"l{i}.{suffix}", n, distinct, draw) for i, n in enumerate(counts))
        if draw.random() < 0.3:
            options["labels_match"] = "all"
    memory = memory_for(tuple(inputs), options, draw)
    if memory is None:
        return None
    return (check_of if draw.random() < 0.25 else search_of)(tuple(inputs), options, memory, draw)


def saved(folder: Path, name: str, kind: str, values: torch.Tensor) -> Path:
    """Write vectors as a file, a packed one, or several that a pattern meets; return what is given for them."""
    path = folder / f"{name}.{kind}"
    if kind.startswith("*"):
        for number, part in enumerate(values.tensor_split(3)):
            save_vectors(folder / f"{name}.{9 + number}{path.suffix}", part)
    elif path.suffix == ".gz":
        save_vectors(path.with_suffix(""), values)
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes(), 1))
        path.with_suffix("").unlink()
    else:
        save_vectors(path, values)
    return path


def labelled(folder: Path, name: str, n: int, distinct: int, draw: random.Random) -> Path:
    """Write up to three labels for each of n rows."""
    path = folder / name
    rows = [sorted(draw.sample(range(distinct), draw.randrange(4))) for _ in range(n)]
    if path.suffix == ".txt":
        path.write_text("".join(",".join(f"l{label}" for label in row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".npy":
        np.save(path, np.array([[*row, -1, -1, -1][:3] for row in rows]))
    else:
        ends = np.cumsum([0, *map(len, rows)], dtype="<i8")
        labels = np.array([label for row in rows for label in row], dtype="<i4")
        parts = (np.array([n, distinct, len(labels)], dtype="<i8"), ends, labels, np.ones(len(labels), dtype="<f4"))
        path.write_bytes(b"".join(part.tobytes() for part in parts))
    return path


def memory_for(inputs: tuple[Path, ...], options: dict[str, object], draw: random.Random) -> int | None:
    """Return a --max-memory by which the search has some tens of steps."""
    fitting, memory = [], LEAST
    while memory < MOST:
        try:
            steps = plan_files(*inputs, **python_of(options), max_memory=memory).layout.n_steps  # type: ignore[arg-type]
        except ValueError:  # too little
            steps = 0
        if STEPS[0] <= steps <= STEPS[1]:
            fitting.append(memory)
        memory = memory * 5 // 4
    return draw.choice(fitting) if fitting else None


def python_of(options: dict[str, object]) -> dict[str, object]:
    """Return options of the command line as the Python functions take them."""
    return {name: parse_rows(str(value)) if name.endswith("rows") else value for name, value in options.items()}


def search_of(inputs: tuple[Path, ...], options: dict[str, object], memory: int, draw: random.Random) -> Job:
    """Return `janelia-knn search`, whose answer may be a link or have a long name, with distances apart or not."""
    suffix, apart, linked = draw.choice(ANSWERS), draw.random() < 0.3, draw.random() < 0.3
    if suffix in NAMED and options["metric"] == "dot":  # which has no distance there
        suffix = "hdf5"
    words = [part for name, value in options.items() for part in (option(name), *listed(value))]
    if suffix in NAMED:
        words, suffix = [*words, "--out-format", suffix], "hdf5"
    elif (apart or suffix in ("npz", "hdf5", "ibin")) and draw.random() < 0.4:
        words += ["--convention", CONVENTIONS[str(options["metric"])]]
    name = f"answer.{suffix}"
    if draw.random() < 0.25:
        name = "a" * (LONGEST - len(name)) + name

    def run(out: Path, resume: bool, factor: float) -> int:
        if linked and not out.is_symlink():
            (out.parent / "elsewhere").mkdir(exist_ok=True)
            out.symlink_to(Path("elsewhere") / out.name)
        more = ["--distances", str(out.with_name("d.npy"))] if apart else []
        more += ["--resume"] if resume else []
        sizes = ["--max-memory", str(int(memory * factor)), "--threads", "1"]
        return cli.main(["search", *map(str, inputs), *words, "-o", str(out), *sizes, *more])

    files = (name, *(["d.npy"] if apart else []))
    said = " ".join(["search", *(path.name for path in inputs), *words, "-o", name[-20:], str(memory)])
    said += " long" * (len(name) == LONGEST)
    return Job(said + " apart" * apart + " linked" * linked, run, files, inputs)


def check_of(inputs: tuple[Path, ...], options: dict[str, object], memory: int, draw: random.Random) -> Job:
    """Return a check of an answer that is not all right; its result and the exact answer are what is compared."""
    arguments = python_of(options)
    queries = inputs[1] if len(inputs) > 1 else None
    answer = inputs[0].with_name("given.npz")
    search_files(inputs[0], queries, **arguments | {"metric": "dot"}, out=answer)  # type: ignore[arg-type]

    def run(out: Path, resume: bool, factor: float) -> int:
        budget = int(memory * factor)
        found = verify_files(inputs[0], queries, answer, **arguments, out=out, resume=resume, max_memory=budget)  # type: ignore[arg-type]
        out.with_name("result.json").write_text(json.dumps(asdict(found)), encoding="utf-8")
        return 0

    said = f"verify {' '.join(path.name for path in inputs)} {options} {memory}"
    return Job(said, run, ("exact.npz", "result.json"), inputs)


def listed(value: object) -> list[str]:
    """Return what follows an option."""
    return [str(part) for part in (value if isinstance(value, tuple) else (value,))]


def option(name: str) -> str:
    """Return an option of the command line by its name in Python."""
    return f"-{name}" if len(name) == 1 else "--" + name.replace("_", "-")


def tried(job: Job, draw: random.Random, folder: Path) -> tuple[int, int, str]:
    """Run a job undisturbed, then killed until it ends: kills, those with finished steps, and what went wrong."""
    for name in ("undisturbed", "killed"):
        (folder / name).mkdir()
    for _ in range(2):  # once to load what it needs, which children then have
        began = time.perf_counter()
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            if job.run(folder / "undisturbed" / job.files[0], False, 1.0) != 0:
                return 0, 0, "undisturbed"
        whole = time.perf_counter() - began
    there, kills, kept, memory = folder / "killed", 0, 0, 1.0
    while True:
        child = start(job, there, kills > 0, memory)
        time.sleep(draw.uniform(0, whole / 3))  # so that a run is killed several times
        os.kill(child, signal.SIGKILL)
        status = wait_for(child)
        if status >= 0:
            break
        kills += 1
        kept += any(path.stat().st_size for path in there.rglob("*.unfinished/journal"))
        if draw.random() < 0.5:
            given = draw.choice(job.inputs)
            touched = draw.choice(sorted(given.parent.glob(given.name)))  # one of those that a pattern meets
            os.utime(touched, ns=(time.time_ns(), draw.randrange(10**18)))
        memory = draw.choice((1.0, 1.0, 1.3))
        if kills > 5 and draw.random() < 0.5:  # let it end
            status = wait_for(start(job, there, True, memory))
            break
    if status != 0:
        return kills, kept, f"exit code {status}"
    for name in job.files:
        if (there / name).read_bytes() != (folder / "undisturbed" / name).read_bytes():
            return kills, kept, f"other bytes in {name}"
    left = {path.name for path in there.rglob("*")} - {*job.files, "elsewhere"}
    return kills, kept, f"left behind: {left}" if left else ""


def start(job: Job, folder: Path, resume: bool, memory: float) -> int:
    """Run a job in a child, quietly but for what it says when it fails; return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        status = job.run(folder / job.files[0], resume, memory)
    except Exception as error:  # which only this process would know of
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(status)


def wait_for(child: int) -> int:
    """Return the exit code of a child, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
