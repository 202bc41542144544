"""What is saved of an index comes back bit for bit, and nothing else is ever taken for it."""

from __future__ import annotations

import json
import pickle
import random
import re
import warnings
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.ml._index.stored import header as headers
from janelia_core.ml._index.stored.container import read, write
from janelia_core.ml._index.stored.digests import CHUNK, fingerprint
from janelia_core.ml._index.stored.errors import IndexFileError, understood
from janelia_core.ml._index.stored.kinds import KINDS, array_to_tensor, tensor_to_array
from janelia_core.ml._index.stored.saved import Piece, Saved, load, save

DTYPES = sorted(
    {
        one
        for one in vars(torch).values()
        if isinstance(one, torch.dtype)
        and (one.is_floating_point or re.fullmatch(r"torch\.(u?int(8|16|32|64)|bool)", str(one)))
    },
    key=str,
)


def bits(values: Tensor) -> Tensor:
    return values.detach().contiguous().reshape(-1).view(torch.uint8)


def of_dtype(dtype: torch.dtype, n: int, d: int) -> Tensor:
    """Return values of all bits that a dtype has."""
    g = torch.Generator().manual_seed(n + d)
    if dtype == torch.bool:
        return torch.randint(0, 2, (n, d), generator=g).bool()
    octets = torch.randint(0, 256, (n * d * dtype.itemsize,), dtype=torch.uint8, generator=g)
    return octets.view(dtype).view(n, d)


def small() -> Saved:
    """Return an index of a few hundred bytes with all that one can have."""
    part = Piece({"boxes": np.arange(3.0), "n": np.array(3, np.int16)}, {"depth": 3, "near": [0.1, None, "ä"]})
    words = Piece({"words": np.arange(6, dtype=np.uint32).reshape(2, 3)})
    values = torch.tensor([[1.0, -0.0], [float("nan"), 2.5], [float("inf"), 7.0]])
    return Saved(values, "euclidean", {"max_memory": 2**40}, np.array([1]), {"tree": part, "dense/int8": words})


def assert_same(one: Saved, other: Saved) -> None:
    assert (one.values.dtype, one.values.shape) == (other.values.dtype, other.values.shape)
    assert torch.equal(bits(one.values), bits(other.values))
    assert (one.metric, one.settings, one.removed.tolist()) == (other.metric, other.settings, other.removed.tolist())
    assert one.parts.keys() == other.parts.keys()
    for name, part in one.parts.items():
        assert part.facts == other.parts[name].facts
        assert part.arrays.keys() == other.parts[name].arrays.keys()
        for key, array in part.arrays.items():
            np.testing.assert_array_equal(array, other.parts[name].arrays[key], strict=True)


def put(path: Path, content: bytes) -> None:
    """Make a new file: systems hurry to put one on the disk that is written over."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def complaint(path: Path, **arguments: Any) -> str:
    """Return what is said of a file that is no index, after a look at its form."""
    with pytest.raises(IndexFileError) as caught:
        load(path, **arguments)
    said = str(caught.value)
    assert len(said) <= 300
    assert said.isprintable()
    assert path.name[-20:] in said
    return said


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_centres_of_every_dtype_come_back_bit_for_bit(dtype: torch.dtype, mmap: bool, tmp_path: Path) -> None:
    for n, d in [(7, 3), (1, 1), (0, 4), (3, 0)]:
        values = of_dtype(dtype, n, d)
        save(tmp_path / "i", Saved(values, "dot"))
        found = load(tmp_path / "i", mmap=mmap)
        assert_same(found, Saved(values, "dot"))
        assert found.fingerprint == fingerprint(values)
    assert torch.equal(bits(array_to_tensor(tensor_to_array(values), dtype)), bits(values))


def test_all_that_an_index_has_comes_back(tmp_path: Path) -> None:
    save(tmp_path / "i", small())
    for mmap in (True, False):
        for verify in (True, False):
            assert_same(load(tmp_path / "i", mmap=mmap, verify=verify), small())


LARGE = torch.arange(2 * 300_000, dtype=torch.float32).reshape(2, 300_000)
STRIDED: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.T,
    "every other column": lambda x: x[:, ::2],
    "every other row": lambda x: x.T[::2],
    "expanded": lambda x: x[:1].expand(5, -1),
    "a view of a view": lambda x: x[1:, 100:-7],
    "a parameter": torch.nn.Parameter,
    "negated lazily": lambda x: torch.complex(x, x).conj().imag,
}


@pytest.mark.parametrize("change", STRIDED.values(), ids=STRIDED)
def test_strides_make_no_difference(change: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    values = change(LARGE)
    plain = values.detach().resolve_neg().contiguous().clone()
    save(tmp_path / "a", Saved(values, "dot"))
    save(tmp_path / "b", Saved(plain, "dot"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert fingerprint(values) == fingerprint(plain) == load(tmp_path / "a").fingerprint


def test_a_fingerprint_tells_dtype_shape_and_every_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.zeros(CHUNK // 4 + 5, 2)
    changed = [values.view(-1, 1), values.view(torch.int32), values[:-1], values.T]
    for place in ((0, 0), (CHUNK // 8, 0), (-1, -1)):
        changed.append(values.clone())
        changed[-1][place] = -0.0
    known = {fingerprint(each) for each in (values, *changed)}
    assert len(known) == 1 + len(changed)
    count = torch.get_num_threads()
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert fingerprint(values.repeat(5, 1)) == fingerprint(values.repeat(5, 2)[:, ::2])
        assert fingerprint(values) in known
    monkeypatch.undo()
    assert torch.get_num_threads() == count


def test_arrays_of_every_type_and_order_come_back_aligned_and_writable(tmp_path: Path) -> None:
    base = np.random.default_rng(0).integers(0, 2, (5, 3))
    arrays = {f"a/{i}": base.astype(kind) for i, kind in enumerate(KINDS.values())}
    arrays |= {"f": np.asfortranarray(base * 1.5), "big": base.astype(">i4"), "strided": base[::2, ::-1]}
    arrays |= {"scalar": np.array(2.5), "empty": np.empty((0, 3), np.int8), "deep": base.reshape(1, 5, 1, 3)}
    write(tmp_path / "i", {}, arrays)
    for mmap in (True, False):
        found = read(tmp_path / "i", mmap=mmap).arrays
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(found[name], array)
            assert found[name].flags.c_contiguous
            assert found[name].flags.writeable
            assert array.size == 0 or found[name].ctypes.data % 64 == 0


def test_what_is_written_to_a_mapped_array_stays_out_of_the_file(tmp_path: Path) -> None:
    save(tmp_path / "i", small())
    before = (tmp_path / "i").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that cannot be written to
        load(tmp_path / "i").values.fill_(3.0)
    assert (tmp_path / "i").read_bytes() == before


def test_what_is_loaded_in_inference_mode_is_an_ordinary_tensor(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        with torch.inference_mode():
            save(tmp_path / "i", Saved(torch.ones(3, 2, dtype=dtype), "dot"))
            values = load(tmp_path / "i").values
        values.requires_grad_().square().sum().backward()
        assert torch.equal(values.grad, torch.full((3, 2), 2, dtype=dtype))


def test_other_programs_read_it_as_safetensors(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch")
    for dtype in (torch.bfloat16, torch.float64, torch.uint16, torch.bool, torch.float8_e4m3fn, torch.float8_e8m0fnu):
        values = of_dtype(dtype, 9, 3)
        save(tmp_path / "i.safetensors", Saved(values, "dot", removed=np.array([2, 5]), parts=small().parts))
        found = library.load_file(tmp_path / "i.safetensors")
        assert found["centres"].dtype == (torch.uint8 if dtype == torch.float8_e8m0fnu else dtype)
        assert torch.equal(bits(found["centres"]), bits(values))
        assert found["removed"].tolist() == [2, 5]
        assert found["dense/int8/words"].dtype == torch.uint32


def test_files_of_this_format_stay_readable(tmp_path: Path) -> None:
    """Whoever changes a byte of what is written changes the format, and its version."""
    save(tmp_path / "i", small())
    assert sha256((tmp_path / "i").read_bytes()).hexdigest() == (
        "b1e424e0b93014ec2e5805248b08cd5174b6a678f02a68bc2a53efe54ff196f9"
    )
    assert headers.VERSION == 1


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_any_changed_byte_is_found(flip: int, tmp_path: Path) -> None:
    save(tmp_path / "i", small())
    whole = (tmp_path / "i").read_bytes()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= flip
        put(tmp_path / "changed", changed)
        complaint(tmp_path / "changed", mmap=at % 2 == 0)


@pytest.mark.parametrize("threads", [1, 3])
def test_damage_is_found_in_large_files_by_any_number_of_threads(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    values = torch.arange(2.5 * CHUNK, dtype=torch.float32)[:, None]  # 10 MiB
    save(tmp_path / "i", Saved(values, "dot", removed=np.array([7])))
    begin = len((tmp_path / "i").read_bytes()) - 64 - values.nbytes
    for mmap in (True, False):
        assert torch.equal(load(tmp_path / "i", mmap=mmap).values, values)
        for at in (0, CHUNK - 1, CHUNK, 5 * CHUNK + 1234, values.nbytes - 1):
            with (tmp_path / "i").open("rb+") as file:
                for flip in (1, 0):  # and back again
                    file.seek(begin + at)
                    byte = file.read(1)[0]
                    file.seek(begin + at)
                    file.write(bytes([byte ^ 1]))
                    file.flush()
                    if flip:
                        assert "the array centres is not as it was written" in complaint(tmp_path / "i", mmap=mmap)
                        assert load(tmp_path / "i", mmap=mmap, verify=False).metric == "dot"
    assert torch.equal(load(tmp_path / "i").values, values)


def test_a_file_cut_off_anywhere_or_with_more_after_it_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "i", small())
    whole = (tmp_path / "i").read_bytes()
    for length in range(len(whole)):
        put(tmp_path / "cut", whole[:length])
        complaint(tmp_path / "cut", mmap=length % 2 == 0, verify=length % 3 == 0)
    for more in (b"\0", b"\0" * 64, whole):
        put(tmp_path / "longer", whole + more)
        assert f"and the file has {len(whole + more)}" in complaint(tmp_path / "longer")


def resealed(path: Path, text: bytes, data: bytes) -> None:
    """Write a file whose header says what it wants and is sealed all the same."""
    head = len(text).to_bytes(8, "little") + text
    if headers.version_of(head) is not None:
        head = headers._with_seal(head, "0" * 64)
        head = headers._with_seal(head, headers._seal(head))
    put(path, head + data)


def parted(path: Path) -> tuple[bytes, bytes]:
    """Return the text of a header, and what is after it."""
    whole = path.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    return whole[8:length], whole[length:]


EVIL = {
    "deep": (b'"dtype":"F32"', b'"dtype":' + b"[" * 100_000 + b"]" * 100_000),
    "twice": (b'"centres":{', b'"removed":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"centres":{'),
    "beyond": (b'"shape":[3,2],"data_offsets":[0,24]', b'"shape":[3,1152921504606846976],"data_offsets":[0,24]'),
    "huge": (
        b'"shape":[3,2],"data_offsets":[0,24]',
        b'"shape":[%d],"data_offsets":[0,%d]' % (2**58, 2**60),
    ),
    "empty and huge": (b'"shape":[3,2],"data_offsets":[0,24]', b'"shape":[0,%d],"data_offsets":[0,0]' % 2**62),
    "over": (b'"data_offsets":[24,64]', b'"data_offsets":[20,60]'),
    "negative": (b'"shape":[3,2]', b'"shape":[-3,-2]'),
    "true": (b'"shape":[3]', b'"shape":[3,true]'),
    "float": (b'"shape":[3,2]', b'"shape":[3.0,2]'),
    "NaN": (b'"shape":[3,2]', b'"shape":[NaN,2]'),
    "digits": (b'"shape":[3,2]', b'"shape":[3,' + b"2" * 5000 + b"]"),
    "exponent": (b'"shape":[3,2]', b'"shape":[3,1e999]'),
    "dimensions": (b'"shape":[3,2]', b'"shape":[3,2' + b",1" * 50 + b"]"),
    "text": (b'"dtype":"F32"', b'"dtype":"F\xff2"'),
    "unknown numbers": (b'"dtype":"F32"', b'"dtype":"C64"'),
    "other numbers": (b'"dtype":"F32"', b'"dtype":"I32"'),
    "another field": (b'"dtype":"F32"', b'"dtype":"F32","more":1'),
    "name": (b'"centres":{', b'"cent res":{'),
    "NaN in facts": (b"1099511627776", b"NaN"),
    "infinity in facts": (b"1099511627776", b"1e999"),
    "twice in facts": (b'\\"metric', b'\\"dtype\\":1,\\"metric'),
    "dtype in facts": (b'\\"float32', b'\\"load'),
    "metric in facts": (b'\\"euclidean\\"', b"7"),
    "parts in facts": (b'\\"dense/int8\\":{}', b'\\"dense/int8\\":7'),
    "list of facts": (b'"facts":"{', b'"facts":"[{'),
    "no JSON": (b'"facts"', b"facts"),
}


@pytest.mark.parametrize("name", EVIL)
def test_a_sealed_header_is_not_believed_either(name: str, tmp_path: Path) -> None:
    save(tmp_path / "i", small())
    text, data = parted(tmp_path / "i")
    old, new = EVIL[name]
    assert text.count(old) >= 1
    text = text.replace(old, new, 1).rstrip()
    resealed(tmp_path / "evil", text + b" " * (-(8 + len(text)) % 64), data)
    for mmap in (True, False):
        assert "damaged" in complaint(tmp_path / "evil", mmap=mmap, verify=False)


def test_a_header_of_any_length_costs_nothing(tmp_path: Path) -> None:
    save(tmp_path / "i", small())
    whole = (tmp_path / "i").read_bytes()
    for length in (0, 1, 100, 2**24 + 1, 2**60, 2**64 - 1):
        put(tmp_path / "evil", length.to_bytes(8, "little") + whole[8:])
        assert "damaged" in complaint(tmp_path / "evil")


def test_thousands_of_mutated_headers_are_refused_or_mean_the_same_arrays(tmp_path: Path) -> None:
    save(tmp_path / "i", small())
    text, data = parted(tmp_path / "i")
    dice = random.Random(0)
    pieces = re.findall(rb'\w+|\\?"|[^\w"\\]', text)
    taken = 0
    for _ in range(3000):
        changed = list(pieces)
        for _ in range(dice.choice([1, 1, 2, 5])):
            at = dice.randrange(len(changed))
            changed[at : at + dice.choice([0, 1, 1, 3])] = dice.choices(
                [dice.choice(pieces), b"0", b"-1", b"9" * 19, b"null", b"[]", b"{}", bytes([dice.randrange(256)])],
                k=dice.choice([0, 1, 1, 2]),
            )
        mutated = b"".join(changed).rstrip()
        resealed(tmp_path / "evil", mutated + b" " * (-(8 + len(mutated)) % 64), data)
        try:
            found = load(tmp_path / "evil", mmap=dice.random() < 0.5)
        except IndexFileError:
            complaint(tmp_path / "evil")
        else:  # other facts, or another shape
            taken += 1
            assert torch.equal(bits(found.values), bits(small().values))
    assert 0 < taken < 1000


def _others(folder: Path) -> dict[str, bytes]:
    np.save(folder / "a.npy", np.zeros(30))
    np.savez(folder / "a.npz", np.zeros(30))
    torch.save(torch.zeros(30), folder / "a.pt")
    tensors = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return {
        "an array of NumPy's": (folder / "a.npy").read_bytes(),
        "a zip archive": (folder / "a.npz").read_bytes(),
        "torch.save": (folder / "a.pt").read_bytes(),
        "a pickle": pickle.dumps(small()),
        "an empty file": b"",
        "it begins with the bytes 00": b"\0" * 1000,
        "it begins with the bytes ff": b"\xff",
        "but none of an index": len(tensors).to_bytes(8, "little") + tensors + bytes(8),
        "bytes 1b 5b 33 31 6d": b"\x1b[31m" * 100,
    }


def test_what_something_else_wrote_is_told_as_such(tmp_path: Path) -> None:
    for said, content in _others(tmp_path).items():
        put(tmp_path / "other", content)
        assert said in complaint(tmp_path / "other")
        assert "give a file that CenterIndex.save wrote" in complaint(tmp_path / "other")
    assert "a folder" in complaint(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")


def test_newer_files_are_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "i", small())
    assert "dense/int8, unknown to this version; update" in complaint(tmp_path / "i", known={"tree"})
    assert_same(load(tmp_path / "i", known={"tree", "dense/int8"}), small())
    facts, arrays, _ = read(tmp_path / "i")
    write(tmp_path / "more", facts, arrays | {"graph/edges": np.zeros(3)})
    assert "graph/edges, unknown to this version; update" in complaint(tmp_path / "more")
    write(tmp_path / "more", facts | {"curvature": 1}, arrays)
    assert "curvature, unknown to this version; update" in complaint(tmp_path / "more")
    monkeypatch.setattr(headers, "VERSION", 2)
    save(tmp_path / "i", small())
    monkeypatch.undo()
    assert "format 2; this version reads format 1; update janelia-core" in complaint(tmp_path / "i")


@pytest.mark.parametrize("removed", [[3], [-1], [1, 1], [2, 1]])
def test_numbers_of_removed_centres_are_checked(removed: list[int], tmp_path: Path) -> None:
    save(tmp_path / "i", Saved(torch.zeros(3, 2), "dot", removed=np.array(removed)))
    assert "removed centres that are none" in complaint(tmp_path / "i")


def test_what_cannot_be_stored_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    save(tmp_path / "i", small())
    before = (tmp_path / "i").read_bytes()
    wrong: list[tuple[Any, Any, type[Exception]]] = [
        ({"a": float("nan")}, {}, ValueError),
        ({"a": {1}}, {}, TypeError),
        ({"a": "x" * 2**24}, {}, ValueError),
        ({}, {"a": np.array([{}])}, TypeError),
        ({}, {"a": np.zeros(3, np.complex64)}, TypeError),
        ({}, {"padding/1": np.zeros(3)}, ValueError),
        ({}, {"../a\n": np.zeros(3)}, ValueError),
    ]
    for facts, arrays, error in wrong:
        with pytest.raises(error):
            write(tmp_path / "i", facts, arrays)
    assert (tmp_path / "i").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["i"]


def test_an_error_is_short_whatever_a_file_is_called_and_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    folder = tmp_path / ("f" * 200)
    folder.mkdir()
    path = folder / ("n\n\x1b\udcff" * 25)
    path.write_bytes(b"nothing")
    with pytest.raises(IndexFileError) as caught:
        load(path)
    assert len(str(caught.value)) <= 300
    assert str(caught.value).isprintable()
    sent = pickle.loads(pickle.dumps(caught.value))
    assert (type(sent), str(sent), sent.remedy) == (IndexFileError, str(caught.value), caught.value.remedy)


@pytest.mark.parametrize("error", [KeyError("words"), ValueError("no\ntree"), IndexError(), OverflowError("x" * 999)])
def test_whatever_a_part_makes_of_its_arrays_is_the_one_error(error: Exception, tmp_path: Path) -> None:
    said = "damaged: the part tree does not fit together"
    with pytest.raises(IndexFileError, match=said) as caught, understood(tmp_path, "the part tree"):
        raise error
    assert len(str(caught.value)) <= 300
    assert str(caught.value).isprintable()
    with pytest.raises(IndexFileError) as again, understood(tmp_path, "the index"):
        raise caught.value
    assert again.value is caught.value
