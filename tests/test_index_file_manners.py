"""The file of an index is whole or not there; processes have it in memory once, and others keep what is theirs."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fresh_process
from janelia_core.ml._index.stored import container, target
from janelia_core.ml._index.stored import header as headers
from janelia_core.ml._index.stored.container import read, write
from janelia_core.ml._index.stored.saved import Saved, load, save

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
locks = pytest.mark.skipif(target.fcntl is None, reason="needs locks")

SHARED = """
import os, sys, torch
from janelia_core.ml._index.stored.saved import load

def kilobytes_of(path):
    '''Return what /proc tells of the file's pages in this process.'''
    found, inside = {}, False
    for line in open("/proc/self/smaps"):
        head, _, rest = line.partition(" ")
        if not head.endswith(":"):
            inside = path in line
        elif inside and rest.strip().endswith("kB"):
            found[head] = found.get(head, 0) + int(rest.split()[0])
    return found

path = sys.argv[1]
torch.set_num_threads(1)
ready, go = os.pipe(), os.pipe()
for _ in range(3):
    if os.fork() == 0:
        index = load(path)
        assert float(index.values.sum()) == 2.0**22
        os.write(ready[1], b".")
        os.read(go[0], 1)
        own = kilobytes_of(path)
        os.write(ready[1], b"%20d%20d%20d" % (own["Rss:"], own["Pss:"], own["Private_Dirty:"]))
        os.read(go[0], 1)
        os._exit(0)
for _ in range(3):
    assert os.read(ready[0], 1) == b"."
os.write(go[1], b"...")
print([[int(os.read(ready[0], 20)) for _ in range(3)] for _ in range(3)])
os.write(go[1], b"...")
for _ in range(3):
    assert os.wait()[1] == 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_processes_share_one_copy(tmp_path: Path) -> None:
    save(tmp_path / "i", Saved(torch.ones(2**20, 4), "dot"))
    run = fresh_process.run(SHARED, tmp_path / "i")
    assert run.returncode == 0, run.stderr
    for resident, share, own in eval(run.stdout):
        assert resident >= 16 * 1024  # all of it was read
        assert share <= 0.4 * resident  # of three that have it
        assert own == 0


CROWD = """
import os, sys, torch
from janelia_core.ml._index.stored.saved import Saved, load, save

path = sys.argv[1]
torch.set_num_threads(1)
save(path, Saved(torch.full((1000, 30), 9.0), "dot"))

def work(number):
    if number < 2:
        save(path, Saved(torch.full((1000 + number, 30), float(number)), "dot"))
    else:
        values = load(path, mmap=number == 2).values
        assert (values == values[0, 0]).all()

children = []
for number in range(4):
    children.append(os.fork())
    if children[-1] == 0:
        for _ in range(20 if number < 2 else 200):
            work(number)
        os._exit(0)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
print(os.listdir(os.path.dirname(path)))
"""


def may_map_more_than_memory() -> bool:
    setting = Path("/proc/sys/vm/overcommit_memory")
    return setting.exists() and setting.read_text().strip() != "2" and container._NO_RESERVE != 0


@pytest.mark.skipif(not may_map_more_than_memory(), reason="the system sets memory aside for all that is mapped")
def test_a_file_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    d = 2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024 // 64 * 64
    sections = headers.laid_out({"centres": ("U8", (1024, d))})
    with (tmp_path / "i").open("wb") as file:  # all of it a hole but the header
        file.truncate(file.write(headers.header_bytes(sections, {"centres": "0" * 64}, {})) + 1024 * d)
    assert read(tmp_path / "i", verify=False).arrays["centres"][-1, -1] == 0


@forks
def test_processes_save_and_load_at_once(tmp_path: Path) -> None:
    run = fresh_process.run(CROWD, tmp_path / "i")
    assert run.returncode == 0, run.stderr
    assert run.stdout == "['i']\n"


KILLED = """
import os, random, signal, sys, time, torch
from janelia_core.ml._index.stored.saved import Saved, load, save

path = sys.argv[1]
torch.set_num_threads(1)
random.seed(0)
values = torch.zeros(2**18, 4)
whole = 9.0
for _ in range(4):
    start = time.perf_counter()
    save(path, Saved(values, "dot"))
    whole = min(whole, time.perf_counter() - start)
current, left, kills = 0.0, 0, 0
for trial in range(1, 31):
    child = os.fork()
    if child == 0:
        save(path, Saved(values + trial, "dot"))
        os._exit(0)
    time.sleep(random.uniform(0, 1.2 * whole))
    os.kill(child, signal.SIGKILL)
    kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    found = load(path).values
    assert (found == found[0, 0]).all() and float(found[0, 0]) in (current, trial), trial
    current = float(found[0, 0])
    left = max(left, len(os.listdir(os.path.dirname(path))) - 1)
save(path, Saved(values, "dot"))
print(kills, left, os.listdir(os.path.dirname(path)))
"""


@forks
@locks
def test_killed_while_saving_it_leaves_the_old_file_and_the_next_clears_up(tmp_path: Path) -> None:
    run = fresh_process.run(KILLED, tmp_path / "i")
    assert run.returncode == 0, run.stderr
    kills, left, names = run.stdout.split(maxsplit=2)
    assert int(kills) >= 10
    assert int(left) == 1  # what one leaves behind goes before the next begins
    assert names == "['i']\n"


FULL = """
import errno, os, resource, sys, torch
from janelia_core.ml._index.stored.saved import Saved, load, save

path = sys.argv[1]
save(path, Saved(torch.ones(10, 3), "dot"))
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
try:
    save(path, Saved(torch.ones(10_000, 3), "dot"))
except OSError as error:
    print(errno.errorcode[error.errno], os.listdir(os.path.dirname(path)), len(load(path).values))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs limits of a process")
def test_no_room_is_an_error_of_the_system_and_the_old_file_stays(tmp_path: Path) -> None:
    run = fresh_process.run(FULL, tmp_path / "i")
    assert (run.returncode, run.stdout) == (0, "EFBIG ['i'] 10\n"), run.stderr


@pytest.mark.skipif(os.name != "posix", reason="a mapped file cannot be replaced")
def test_who_has_the_old_file_mapped_keeps_it(tmp_path: Path) -> None:
    save(tmp_path / "i", Saved(torch.zeros(100_000, 3), "dot"))
    old = load(tmp_path / "i", verify=False)
    save(tmp_path / "i", Saved(torch.ones(5, 3), "dot"))
    assert len(load(tmp_path / "i").values) == 5
    assert not old.values.any()
    (tmp_path / "i").unlink()
    assert not old.values.any()


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(Path("real", "i"))
    for n in (3, 4):  # at first it leads nowhere
        save(str(tmp_path / "link"), Saved(torch.ones(n, 3), "dot"))
        assert (tmp_path / "link").is_symlink()
        assert len(load(str(tmp_path / "link")).values) == n
        assert os.listdir(tmp_path / "real") == ["i"]


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        save(tmp_path / "i", Saved(torch.ones(3, 3), "dot"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "i").stat().st_mode) == 0o666 & ~mask


def test_a_place_for_no_file_is_refused(tmp_path: Path) -> None:
    saved = Saved(torch.ones(3, 3), "dot")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        save(tmp_path, saved)
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "missing" / "i", saved)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileExistsError, match="no regular file"):
            save(tmp_path / "pipe", saved)
        with pytest.raises(ValueError, match="no regular file"):
            load(tmp_path / "pipe")
    (tmp_path / ("n" * 255)).touch()
    save(tmp_path / ("n" * 255), saved)
    assert len(load(tmp_path / ("n" * 255)).values) == 3


@locks
def test_what_someone_still_writes_is_left_alone(tmp_path: Path) -> None:
    with target.written(tmp_path / "i") as file:
        file.write(b"first")
        save(tmp_path / "i", Saved(torch.ones(3, 3), "dot"))
        (tmp_path / "i.01234567.unfinished~").touch()
        (tmp_path / "i.mine.unfinished~").touch()
        assert len(load(tmp_path / "i").values) == 3
        save(tmp_path / "i", Saved(torch.ones(4, 3), "dot"))
    assert (tmp_path / "i").read_bytes() == b"first"  # who ends last
    assert sorted(os.listdir(tmp_path)) == ["i", "i.mine.unfinished~"]


@locks
def test_who_was_taken_for_abandoned_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, begun = target.fcntl.flock, []

    def late(file: int, how: int) -> None:
        begun.append(file)
        if len(begun) == 1:
            target._remove_abandoned(tmp_path / "i")
        flock(file, how)

    monkeypatch.setattr(target.fcntl, "flock", late)
    save(tmp_path / "i", Saved(torch.ones(3, 3), "dot"))
    assert len(begun) == 3  # of the first, of whoever removed it, of the second
    assert os.listdir(tmp_path) == ["i"]


def test_systems_without_locks_and_positioned_access_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {"a": np.arange(2_000_000.0), "b": np.arange(7, dtype=np.int8)}
    write(tmp_path / "whole", {}, arrays)
    monkeypatch.setattr(target, "fcntl", None)
    for name in ("preadv", "pread", "pwritev", "pwrite"):
        monkeypatch.delattr(os, name, raising=False)
    write(tmp_path / "i", {}, arrays)
    assert (tmp_path / "i").read_bytes() == (tmp_path / "whole").read_bytes()
    for mmap in (True, False):
        found = read(tmp_path / "i", mmap=mmap).arrays
        assert all((found[name] == array).all() for name, array in arrays.items())


def test_a_file_that_is_shortened_while_it_is_read_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "i", Saved(torch.ones(1000, 3), "dot"))
    sealed = container.sealed

    def shorten(head: bytes) -> bool:
        os.truncate(tmp_path / "i", 5000)
        return sealed(head)

    monkeypatch.setattr(container, "sealed", shorten)
    for mmap in (True, False):
        save(tmp_path / "i", Saved(torch.ones(1000, 3), "dot"))
        with pytest.raises(ValueError, match="shortened while it was read"):
            load(tmp_path / "i", mmap=mmap)
