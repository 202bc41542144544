"""Nothing is lost: not by kill -9, not by a full disk, not by Ctrl-C; and nothing is mixed up."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path

import pytest
import torch

import fresh_process
from janelia_core import cli
from janelia_core.files import UnlockedWarning, search_files
from janelia_core.files.formats.registry import save_vectors
from janelia_core.files.inputs.input import open_vectors
from janelia_core.files.layout import Layout

# One process imports torch; its children search and are killed. Small blocks, so that there is much to lose.
KILLED = """
import os, random, signal, sys, time
import torch
from janelia_core.files import question, search_files
from janelia_core.files.layout import Layout

torch.set_num_threads(1)
folder, outer, trials = sys.argv[1], sys.argv[2], int(sys.argv[3])

def small(n_smps, n_ctrs, k, **sizes):
    return Layout(n_smps, n_ctrs, k, outer, -(-n_smps // 4), -(-n_ctrs // 5), 2**26, 0, 0, 0)

question.make_layout = small

def run(out):
    search_files(f"{folder}/c.npy", f"{folder}/x.npy", k=7, out=out, resume=True)

run(f"{folder}/undisturbed.npz")
start = time.perf_counter()
run(f"{folder}/undisturbed.npz")
whole = time.perf_counter() - start
undisturbed = open(f"{folder}/undisturbed.npz", "rb").read()
random.seed(outer)
kills = 0
for trial in range(trials):
    out = f"{folder}/{trial}.npz"
    while True:
        child = os.fork()
        if child == 0:
            run(out)
            os._exit(0)
        time.sleep(random.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        kills += 1
        if os.path.exists(out) and not os.path.exists(out + ".unfinished"):
            break
        if random.random() < 0.7:  # else the resumption is killed as well
            run(out)
            break
    assert open(out, "rb").read() == undisturbed, trial
    assert not os.path.exists(out + ".unfinished")
    os.remove(out)
print(kills)
"""


def save_inputs(folder: Path) -> None:
    g = torch.Generator().manual_seed(0)
    save_vectors(folder / "c.npy", torch.randn(60, 4, generator=g).repeat(3, 1))
    save_vectors(folder / "x.npy", torch.randn(40, 4, generator=g))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks(n_smps: int, n_ctrs: int, k: int, **sizes: object) -> Layout:
        return Layout(n_smps, n_ctrs, k, "queries", -(-n_smps // 2), -(-n_ctrs // 3), 2**26, 0, 0, 0)

    monkeypatch.setattr("janelia_core.files.question.make_layout", blocks)


class Stopped(Exception):
    pass


def stop_after(steps: int):  # type: ignore[no-untyped-def]
    """Return a progress callback that raises after some steps."""
    seen = []

    def callback(progress: object) -> None:
        seen.append(progress)
        if len(seen) == steps:
            raise Stopped

    return callback


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("outer", ["queries", "centres"])
def test_killed_at_random_moments_it_resumes_to_the_same_bytes(outer: str, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    run = fresh_process.run(KILLED, tmp_path, outer, 25, timeout=200)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= 12


@pytest.mark.parametrize("steps", range(1, 7))
def test_it_goes_on_at_the_last_finished_step(steps: int, small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    arguments = {"k": 4, "out": tmp_path / "o.npy"}
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "whole.npy")
    with pytest.raises(Stopped):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", progress=stop_after(steps), **arguments)
    assert not (tmp_path / "o.npy").exists()
    with pytest.raises(FileExistsError, match=r"unfinished search is there.*resume it"):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", **arguments)
    report = search_files(tmp_path / "c.npy", tmp_path / "x.npy", resume=True, **arguments)
    assert report.resumed_at == steps
    assert (tmp_path / "o.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda folder: save_vectors(folder / "c.npy", torch.zeros(170, 4)), "the centres changed since"),
        (lambda folder: save_vectors(folder / "x.npy", torch.zeros(40, 4)), "the queries changed since"),
        (lambda folder: {"k": 5}, "begun with k 4, not 5"),
        (lambda folder: {"rows": (1, None)}, "begun with rows"),
        (lambda folder: {"metric": "sqeuclidean"}, "begun with metric euclidean, not sqeuclidean"),
    ],
)
def test_a_resumption_of_something_else_is_refused(change, complaint: str, small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    arguments = {"k": 4, "out": tmp_path / "o.npy"}
    with pytest.raises(Stopped):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", progress=stop_after(2), **arguments)
    arguments |= change(tmp_path) or {}
    with pytest.raises(ValueError, match=complaint):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", resume=True, **arguments)


def rewritten(path: Path) -> Path:
    """Put the same content into a new file at the same place."""
    path.with_suffix(".new").write_bytes(path.read_bytes())
    os.replace(path.with_suffix(".new"), path)
    return path


def elsewhere(path: Path) -> Path:
    """Put the file where another machine might have it."""
    (path.parent / "mounted").mkdir()
    return path.rename(path.parent / "mounted" / path.name)


def touched(path: Path) -> Path:
    os.utime(path, ns=(1, 1))
    return path


@pytest.mark.parametrize("change", [touched, rewritten, elsewhere])
def test_an_input_that_was_touched_but_not_changed_goes_on(change, small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    arguments = {"k": 4, "out": tmp_path / "o.npy"}
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "whole.npy")
    with pytest.raises(Stopped):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", progress=stop_after(4), **arguments)
    inputs = change(tmp_path / "c.npy"), touched(tmp_path / "x.npy")
    assert search_files(*inputs, resume=True, **arguments).resumed_at == 4
    assert (tmp_path / "o.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize("change", [touched, rewritten])
def test_an_input_may_be_touched_while_it_is_searched(change, small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "whole.npy")
    change_now = lambda progress: change(tmp_path / "c.npy")  # noqa: E731
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "o.npy", progress=change_now)
    assert (tmp_path / "o.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def flip(path: Path, at: int) -> None:
    """Change one byte, and let nobody see it by size or time."""
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 64]))
    os.utime(path, ns=times)


def save_many(folder: Path) -> None:
    """Save centres of 1 MiB, of which a fingerprint sees a quarter: not bytes 8000 and 1000000."""
    save_inputs(folder)
    save_vectors(folder / "c.npy", torch.randn(1 << 16, 4, generator=torch.Generator().manual_seed(1)))


def test_what_was_read_is_compared_in_full_and_the_rest_is_read_as_it_is_now(small: None, tmp_path: Path) -> None:
    save_many(tmp_path)
    inputs, arguments = (tmp_path / "c.npy", tmp_path / "x.npy"), {"k": 4, "out": tmp_path / "o.npy"}
    with pytest.raises(Stopped):
        search_files(*inputs, progress=stop_after(2), **arguments)
    flip(inputs[0], 8000)
    with pytest.raises(ValueError, match="the centres changed since this search was begun: rows 0 to 21845 of"):
        search_files(*inputs, resume=True, **arguments)
    flip(inputs[0], 8000)
    flip(inputs[0], 1_000_000)
    assert search_files(*inputs, resume=True, **arguments).resumed_at == 2
    search_files(*inputs, k=4, out=tmp_path / "now.npy")
    assert (tmp_path / "o.npy").read_bytes() == (tmp_path / "now.npy").read_bytes()


def test_a_block_that_changes_between_two_readings_gives_no_answer(small: None, tmp_path: Path) -> None:
    save_many(tmp_path)
    seen: list[object] = []

    def change_and_back(progress: object) -> None:
        seen.append(progress)
        if len(seen) in (2, 4):  # before and after the second reading of the first block
            flip(tmp_path / "c.npy", 8000)

    with pytest.raises(ValueError, match="changed while they were searched: rows 0 to 21845"):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "o.npy", progress=change_and_back)
    assert not (tmp_path / "o.npy").exists()


@pytest.mark.parametrize("memory", ["700KiB", "4MiB"])
def test_it_goes_on_in_the_blocks_that_it_was_begun_with_in_less_or_more_memory(memory: str, tmp_path: Path) -> None:
    save_many(tmp_path)
    inputs, arguments = (tmp_path / "c.npy", tmp_path / "x.npy"), {"k": 4, "out": tmp_path / "o.npy"}
    whole = search_files(*inputs, k=4, out=tmp_path / "whole.npy", max_memory="1MiB")
    with pytest.raises(Stopped):
        search_files(*inputs, progress=stop_after(1), max_memory="1MiB", **arguments)
    with pytest.raises(ValueError, match="for the blocks that this search was begun with, got 300 KiB"):
        search_files(*inputs, resume=True, max_memory="300KiB", **arguments)
    report = search_files(*inputs, resume=True, max_memory=memory, **arguments)
    assert (report.resumed_at, report.layout.ctr_block) == (1, whole.layout.ctr_block)
    assert (
        search_files(*inputs, k=4, out=tmp_path / "new.npy", max_memory=memory).layout.ctr_block
        != whole.layout.ctr_block
    )
    assert (tmp_path / "o.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def interrupted(progress: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("asked", ["in the way", "Ctrl-C", "other arguments"])
def test_the_command_to_go_on_with_is_said_and_does_so(
    asked: str, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("c.npy").rename("-c 1.npy")
    arguments = {"k": 4, "out": "o.bin", "formats": (None, None, "ibin"), "rows": (1, None), "metric": "cosine"}
    arguments |= {"dtype": torch.float16, "max_memory": "2MiB", "distances": Path("d.npy")}
    with pytest.raises(KeyboardInterrupt) as said:
        search_files("-c 1.npy", "x.npy", **arguments, progress=interrupted)
    if asked != "Ctrl-C":
        other = {"k": 5, "resume": True} if asked == "other arguments" else {}
        kind = ValueError if other else FileExistsError
        with pytest.raises(kind) as said:  # type: ignore[assignment]
            search_files("-c 1.npy", "x.npy", **arguments | other)
    command = shlex.split(str(said.value)[str(said.value).index("janelia-knn ") :].partition("  (")[0])
    assert cli.main(command[1:]) == 0
    search_files("-c 1.npy", "x.npy", **arguments | {"out": "whole.ibin", "distances": "w.npy"})
    assert Path("o.bin").read_bytes() == Path("whole.ibin").read_bytes()
    assert Path("d.npy").read_bytes() == Path("w.npy").read_bytes()


def test_of_several_files_each_is_known_again(small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "whole.npy")
    with open_vectors(tmp_path / "c.npy") as file:
        save_vectors(tmp_path / "1.npy", file.read(0, 100))
        save_vectors(tmp_path / "2.npy", file.read(100, 180))
    inputs = [tmp_path / "1.npy", tmp_path / "2.npy"], tmp_path / "x.npy"
    arguments = {"k": 4, "out": tmp_path / "o.npy"}
    with pytest.raises(Stopped):
        search_files(*inputs, progress=stop_after(3), **arguments)
    with pytest.raises(FileExistsError, match="resume it by: the same call with resume=True"):
        search_files(*inputs, **arguments)
    flip(touched(tmp_path / "2.npy"), 500)
    with pytest.raises(ValueError, match="the centres changed since"):
        search_files(*inputs, resume=True, **arguments)
    flip(tmp_path / "2.npy", 500)
    assert search_files(*inputs, resume=True, **arguments).resumed_at == 3
    assert (tmp_path / "o.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="needs locks")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_lacks_locks_claims_and_synced_folders_will_do(
    code: int, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    sync = os.fsync
    save_inputs(tmp_path)
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "whole.npz")
    monkeypatch.setattr("fcntl.flock", lacking)
    monkeypatch.setattr(os, "posix_fallocate", lacking)
    monkeypatch.setattr(os, "fsync", lambda file: (lacking if stat.S_ISDIR(os.fstat(file).st_mode) else sync)(file))
    arguments = {"k": 4, "out": tmp_path / "o.npz"}
    with (
        pytest.warns(UnlockedWarning, match="see to it that no second search"),
        pytest.raises(Stopped),
    ):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", progress=stop_after(4), **arguments)
    with pytest.warns(UnlockedWarning):
        assert search_files(tmp_path / "c.npy", tmp_path / "x.npy", resume=True, **arguments).resumed_at == 4
    assert (tmp_path / "o.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_a_lock_that_fails_otherwise_is_an_error(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    save_inputs(tmp_path)
    monkeypatch.setattr("fcntl.flock", failing)
    with pytest.raises(OSError, match="Input/output error"):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "o.npz")


def test_changed_content_is_noticed_though_size_and_time_are_the_same(small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    path = tmp_path / "c.npy"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    with pytest.raises(Stopped):
        search_files(path, tmp_path / "x.npy", k=4, out=tmp_path / "o.npy", progress=stop_after(1))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=times)
    with pytest.raises(ValueError, match="the centres changed since"):
        search_files(path, tmp_path / "x.npy", k=4, out=tmp_path / "o.npy", resume=True)


def test_inputs_that_change_while_they_are_searched_give_no_answer(small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)

    def change(progress: object) -> None:
        save_vectors(tmp_path / "c.npy", torch.zeros(180, 4))

    with pytest.raises(ValueError, match="changed while they were searched"):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "o.npy", progress=change)
    assert not (tmp_path / "o.npy").exists()


@pytest.mark.parametrize("torn", [b"", b'{"fini', b'{"finished": 3', b"\0\0\0\0", b'{"finished": 99}\0'])
def test_a_journal_torn_at_its_end_counts_up_to_there(torn: bytes, small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    arguments = {"k": 4, "out": tmp_path / "o.npy"}
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "whole.npy")
    with pytest.raises(Stopped):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", progress=stop_after(2), **arguments)
    with (tmp_path / "o.npy.unfinished" / "journal").open("ab") as file:
        file.write(torn)
    assert search_files(tmp_path / "c.npy", tmp_path / "x.npy", resume=True, **arguments).resumed_at == 2
    assert (tmp_path / "o.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize("name", ["indices", "distances", "state"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: os.truncate(path, 8)])
def test_a_journal_whose_data_are_gone_is_no_answer(name: str, damage, small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    arguments = {"k": 4, "out": tmp_path / "o.npz", "resume": True}
    with pytest.raises(Stopped):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", progress=stop_after(6), **arguments)
    damage(tmp_path / "o.npz.unfinished" / name)
    with pytest.raises(ValueError, match=f"{name} misses what the journal lists"):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", **arguments)
    assert not (tmp_path / "o.npz").exists()


@pytest.mark.parametrize("removals", range(3))
def test_killed_while_it_removes_what_is_finished_it_resumes(
    removals: int, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_inputs(tmp_path)
    arguments = {"k": 4, "out": tmp_path / "o.npz", "resume": True}
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "whole.npz")

    unlink, removed = Path.unlink, []

    def killed(path: Path) -> None:
        if len(removed) == 1 + removals:  # the journal, and data
            raise Stopped
        unlink(path)
        removed.append(path.name)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(Stopped):
            search_files(tmp_path / "c.npy", tmp_path / "x.npy", **arguments)
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", **arguments)
    assert (tmp_path / "o.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_what_others_put_into_the_folder_stays(small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    arguments = {"k": 4, "out": tmp_path / "o.npy"}
    with pytest.raises(Stopped):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", progress=stop_after(2), **arguments)
    folder = tmp_path / "o.npy.unfinished"
    (folder / "notes").write_text("mine")
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", resume=True, **arguments)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"notes": "mine"}
    with pytest.raises(FileExistsError, match="holds no unfinished search; remove or rename it"):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", **arguments)


@pytest.mark.parametrize("line", [b"null", b"[]", b"3", b'{"finished": 4}', b'{"finished": "x"}', b"{}"])
def test_a_journal_that_no_search_wrote_is_refused(line: bytes, small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    arguments = {"k": 4, "out": tmp_path / "o.npy"}
    with pytest.raises(Stopped):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", progress=stop_after(2), **arguments)
    journal = tmp_path / "o.npy.unfinished" / "journal"
    begun = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(ValueError, match="the journal is damaged in line 4"):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", resume=True, **arguments)
    journal.write_bytes(line + b"\n" + begun)
    with pytest.raises(ValueError, match=r"the journal is damaged in line [12]|begun with"):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", resume=True, **arguments)


@pytest.mark.parametrize("outer", ["queries", "centres"])
def test_systems_without_positioned_reads_and_writes_give_the_same_bytes(
    outer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blocks(n_smps: int, n_ctrs: int, k: int, **sizes: object) -> Layout:
        return Layout(n_smps, n_ctrs, k, outer, -(-n_smps // 2), -(-n_ctrs // 3), 2**26, 0, 0, 0)

    save_inputs(tmp_path)
    monkeypatch.setattr("janelia_core.files.question.make_layout", blocks)
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "whole.npz")
    for name in ("preadv", "pread", "pwritev", "pwrite"):
        monkeypatch.delattr(os, name, raising=False)
    arguments = {"k": 4, "out": tmp_path / "o.npz"}
    with pytest.raises(Stopped):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", progress=stop_after(4), **arguments)
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", resume=True, **arguments)
    assert (tmp_path / "o.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="needs locks")
def test_the_folder_is_locked_until_it_is_gone(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_inputs(tmp_path)
    arguments = {"k": 4, "out": tmp_path / "o.npz", "resume": True}
    unlink = Path.unlink
    refused = []

    def second(path: Path) -> None:
        if path.name == "journal":
            with pytest.raises(ValueError, match="another process is at work"):
                search_files(tmp_path / "c.npy", tmp_path / "x.npy", **arguments)
            refused.append(path)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", second)
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", **arguments)
    assert len(refused) == 1


FULL = """
import resource, sys
from janelia_core import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("limit", [100, 3200])
def test_a_full_disk_is_a_clear_error_and_no_loss(limit: int, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    command = ["search", f"{tmp_path}/c.npy", f"{tmp_path}/x.npy", "-k10", "-o", f"{tmp_path}/o.npy", "--threads", "1"]
    run = fresh_process.run(FULL, limit, *command, timeout=60)
    assert run.returncode == (3 if limit == 3200 else 2)
    assert "no room on the disk" in run.stderr
    assert "Traceback" not in run.stderr
    left = {"o.npy.unfinished"} if limit == 3200 else set()
    assert {path.name for path in tmp_path.iterdir()} == {"c.npy", "x.npy"} | left
    assert ("can be resumed" in run.stderr) == bool(left)
    report = search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=10, out=tmp_path / "o.npy", resume=True)
    assert report.resumed_at == (1 if limit == 3200 else 0)  # 3200 bytes hold the answer, but not its header besides
    with open_vectors(tmp_path / "o.npy") as file:
        assert file.shape == (40, 10)


def test_what_failed_before_its_first_step_is_not_in_the_way(small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    save_vectors(tmp_path / "bad.fvecs", torch.zeros(10, 4))
    with (tmp_path / "bad.fvecs").open("rb+") as file:
        file.seek(3 * 20)
        file.write(b"\x07")
    with pytest.raises(ValueError, match="row 3 says that it has 7 columns"):
        search_files(tmp_path / "c.npy", tmp_path / "bad.fvecs", k=4, out=tmp_path / "o.npy")
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "o.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.fvecs", "c.npy", "o.npy", "x.npy"]


def test_room_is_claimed_before_the_work(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    save_inputs(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", full)
    seen: list[object] = []
    with pytest.raises(OSError, match="no room on the disk: the answer takes"):
        search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "o.npy", progress=seen.append)
    assert seen == []


def test_two_processes_do_not_work_on_one_search(small: None, tmp_path: Path) -> None:
    save_inputs(tmp_path)
    complaints = []

    def second(progress: object) -> None:
        with pytest.raises(ValueError, match="another process is at work") as error:
            search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "o.npy", resume=True)
        complaints.append(error)

    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=4, out=tmp_path / "o.npy", progress=second)
    assert len(complaints) == 6
