"""Open damaged files of every format, and hold what comes of it to the rules for a stranger's file.

`python tools/fuzz_files.py --openings 1000000 --seed 0` damages small sound files at random, opens each and reads a few
rows, in as many processes as there are cores. It prints one line for each case that breaks a rule, which `--only
FORMAT:NUMBER` repeats (`--keep FOLDER` keeps its file), and ends with 1 if there were any. The rules:

- no exception but VectorFileError, OSError and MissingExtraError, and no crash of the process;
- its message is one line of at most 300 printable characters, and nothing else is written, warnings included;
- it takes at most a second of the processor, and 64 MiB of memory beside what the process had.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "src")]

import torch  # noqa: E402
from fuzz_file_cases import Fuzz, Watch, opened, written  # noqa: E402
from fuzz_file_samples import suffixes  # noqa: E402
from fuzz_file_workers import KNOWN, run  # noqa: E402

from janelia_core.files import VectorFileError  # noqa: E402


def main() -> int:
    """Run the fuzz as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openings", type=int, default=1 << 62, help="how many files are opened")
    parser.add_argument("--seconds", type=float, default=1e9, help="after which it ends")
    parser.add_argument("--seed", type=int, default=0, help="of the cases")
    parser.add_argument("--formats", help="those tried, with commas between; default: all")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", metavar="FORMAT:NUMBER", help="one case, in this process")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the file of that case is written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only:
        format, _, number = options.only.partition(":")
        case = Fuzz([format], options.seed).of(format, int(number))
        folder = options.keep or Path(tempfile.mkdtemp())
        folder.mkdir(parents=True, exist_ok=True)
        path = written(case, folder)
        print(f"{path}, opened as {case.role!r}")
        with contextlib.suppress(VectorFileError):
            opened(case, path)
        ok, told = Watch(None).broken(case, path)
        print(told or ("opened" if ok else "refused"))
        return int(bool(told))
    formats = options.formats.split(",") if options.formats else suffixes()
    count = 0
    for line in run(Fuzz(formats, options.seed), options.openings, options.seconds, options.processes):
        if not line.startswith("="):
            count += f" {KNOWN} (" not in line
            line += f"; repeat: python tools/fuzz_files.py --seed {options.seed} --only {line.partition(' ')[0]}"
        print(line, flush=True)
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
