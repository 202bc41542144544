"""Damage for files of vectors, drawn at random: of any bytes, and of the fields of formats that it knows."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from random import Random

EXTREMES = (0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
NASTY = (
    "\n",
    "\r",
    "\0",
    "\x1b[2J",
    "\u202e",
    "\u2028",
    "\ud800",
    "\x7f",
    "é",
    "x" * 4000,
    "/",
    "..",
    "'",
    '"',
    "{}",
    "%s",
)
NUMBERS = ("nan", "1e400", "-1", "1_000", "0x10", "", "x", "1" * 400, "1e-400", "inf", "1,5", "３", "1 2", "#", '"1"')
Damage = Callable[[Random, bytes], bytes]


def place(r: Random, size: int) -> int:
    """Return a byte of a file, of its beginning or its end more often than not."""
    if size < 1:
        return 0
    way = r.random()
    if way < 0.3:
        return r.randrange(size)
    near = min(size - 1, int(r.expovariate(1 / 60)))
    return near if way < 0.7 else size - 1 - near


def flipped(r: Random, data: bytes) -> bytes:
    """Some bits, or whole bytes, are others."""
    changed = bytearray(data)
    for _ in range(r.choice((1, 1, 1, 2, 4, 16))):
        if changed:
            at = place(r, len(changed))
            changed[at] = r.choice((changed[at] ^ 1 << r.randrange(8), 0, 255, r.randrange(256)))
    return bytes(changed)


def extreme(r: Random, data: bytes) -> bytes:
    """A number of 1 to 8 bytes is one that no length should be."""
    changed = bytearray(data)
    for _ in range(r.choice((1, 1, 2, 3))):
        width = r.choice((1, 2, 4, 8))
        at = place(r, len(changed)) // width * width if r.random() < 0.7 else place(r, len(changed))
        order = r.choice(("little", "little", "big"))
        found = int.from_bytes(changed[at : at + width], order)  # type: ignore[arg-type]
        value = r.choice((*EXTREMES, found + 1, found - 1, found * 2, found << 16)) % (1 << 8 * width)
        changed[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]
    return bytes(changed)


def cut(r: Random, data: bytes) -> bytes:
    """It ends early, or a part is missing, doubled or put elsewhere."""
    a, b = sorted((place(r, len(data)), place(r, len(data))))
    part = data[a : min(b, a + 4096)]
    return r.choice(
        (data[:a], data[:a] + data[b:], data[:b] + part + data[b:], part, data + part, data[:a] + part * 50)
    )


def noise(r: Random, data: bytes) -> bytes:
    """Random bytes stand in it, or instead of it."""
    at, new = place(r, len(data)), r.randbytes(r.choice((1, 4, 8, 64, 1000)))
    return r.choice((data[:at] + new + data[at:], data[:at] + new + data[at + len(new) :], new))


def renumbered(r: Random, data: bytes) -> bytes:
    """A number or a word in letters is another one."""
    words = list(re.finditer(rb"[0-9]+|[A-Za-z_]{3,}", data))
    if not words:
        return noise(r, data)
    word = r.choice(words)
    new = str(r.choice(EXTREMES)) if word[0].isdigit() and r.random() < 0.6 else r.choice(NASTY + NUMBERS)
    return data[: word.start()] + new.encode("utf-8", "surrogatepass") + data[word.end() :]


ANY: tuple[Damage, ...] = (flipped, flipped, extreme, extreme, cut, noise, renumbered)


def npy_fields(r: Random, data: bytes) -> bytes:
    """A header of `.npy` whose text says something else, with its length set right."""
    at = data.find(b"\n") + 1
    text = data[10:at].decode("latin-1").strip()
    values = {
        "descr": (
            "'<f4'",
            "'|O'",
            "'>i8'",
            "'<U9'",
            "[('a', '<f4')]",
            "'<f16'",
            "3",
            "'f'",
            "'<V99999999999'",
            "'|b1'",
        ),
        "fortran_order": ("True", "False", "1", "[]"),
        "shape": (
            "(3, 4)",
            "(1,)",
            "()",
            "(-1, 4)",
            f"({2**60}, 4)",
            f"(4, {2**63})",
            "(0, 3)",
            "(3, 0)",
            "(3L, 4L)",
            "3",
        ),
    }
    field = r.choice(list(values))
    text = re.sub(rf"('{field}': )(\([^)]*\)|[^,}}]*)", lambda found: found[1] + r.choice(values[field]), text)
    if r.random() < 0.2:
        text = r.choice(
            ("[" * 5000, "{" * 3000, text * 9, text.replace("'", r.choice(NASTY)), "9" * 9000, f"{text}  # ")
        )
    coded = text.encode("utf-8", "surrogatepass")[:65000] + b"\n"
    return data[:6] + b"\1\0" + struct.pack("<H", len(coded)) + coded + data[at:]


def zip_fields(r: Random, data: bytes) -> bytes:
    """A field of a zip's headers or of its end is an extreme."""
    signature, size = r.choice(((b"PK\1\2", 46), (b"PK\1\2", 46), (b"PK\3\4", 30), (b"PK\5\6", 22), (b"PK\6\6", 56)))
    places = [found.start() for found in re.finditer(re.escape(signature), data)]
    if not places:
        return extreme(r, data)
    at, width = r.choice(places) + r.randrange(4, size), r.choice((2, 4, 8))
    value = r.choice(EXTREMES) % (1 << 8 * width)
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


def zipped_again(inner: Damage) -> Damage:
    """Return damage of one member, in an archive that is sound, or packed in other ways."""

    def damage(r: Random, data: bytes) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
            members = old.infolist()
            hit = r.randrange(len(members))
            packing = r.choice((zipfile.ZIP_STORED,) * 5 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            for at, member in enumerate(members):
                content = old.read(member)
                name = (
                    member.filename if r.random() < 0.9 else member.filename + r.choice(("é", "/", "\u202e", "n" * 900))
                )
                new.writestr(name, inner(r, content) if at == hit else content, packing)
        return made.getvalue()

    return damage


def pickled(r: Random, data: bytes) -> bytes:
    """A pickle with operations that make much of little, or others than before."""
    made = r.choice((b"]" * 100_000, b"}" * 100_000, b"(" * 50_000, b"2" * 100_000, b"cbuiltins\nbytearray\nK\1\x85R"))
    huge = b"cbuiltins\nbytearray\n\x8a\5" + (2**33).to_bytes(5, "little") + b"\x85R."
    at = place(r, len(data))
    return r.choice(
        (data[:2] + made + b".", data[:at] + made + data[at:], b"\x80\2" + huge, *(f(r, data) for f in ANY))
    )


def safetensors_fields(r: Random, data: bytes) -> bytes:
    """A header of `.safetensors` whose JSON says something else, with its length set right."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = r.choice(list(header))
    changes: tuple[dict[str, object], ...] = (
        {"dtype": r.choice(("F8_E4M3", "BOOL", "U64", "F4", "", "x" * 999, "\n", "C64"))},
        {"shape": r.choice(([2**60, 4], [2**32, 2**32], [1], [], [0, 4], [-1, 4], [1.5, 2], ["a"], [1] * 5000, None))},
        {"data_offsets": r.choice(([0, 2**63], [8, 4], [-1, 4], [0], [], [2**64, 2**64], None))},
    )
    header[name] = header[name] | r.choice(changes)
    header[r.choice((name, "__metadata__", *NASTY[:5]))] = r.choice(
        (header[name], {"a": "b"}, {"a": 1}, None, "[" * 99)
    )
    text = json.dumps(header).encode()
    if r.random() < 0.15:
        text = r.choice(
            (b"[" * 20_000, b'{"a":' * 9000, b'{"a":[' + b"[]," * 60_000 + b"0]}", b"{" + b" " * 300_000 + b"}")
        )
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def fields_of_text(r: Random, data: bytes) -> bytes:
    """A table in which some number is none, or a line is longer, or is none."""
    lines = data.decode().split("\n")
    for _ in range(r.choice((1, 1, 2))):
        at = r.randrange(len(lines))
        parts = lines[at].split(",")
        parts[r.randrange(len(parts))] = r.choice(NUMBERS + NASTY)
        lines[at] = r.choice((",".join(parts), ",".join(parts), lines[at] + ",1", "", lines[at] * 2, ";".join(parts)))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


KNOWN: dict[str, tuple[Damage, ...]] = {
    "npy": (npy_fields, npy_fields, npy_fields),
    "npz": (zip_fields, zip_fields, zipped_again(npy_fields), zipped_again(flipped)),
    "pt": (zip_fields, zipped_again(pickled), zipped_again(pickled), zipped_again(extreme)),
    "safetensors": (safetensors_fields,) * 5,
    "csv": (fields_of_text,) * 5,
}
"""Damage that knows a format; every format meets that of `ANY` too."""


def damaged(r: Random, format: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files of a sample of which one is damaged, once or a few times over."""
    hit = r.choice(list(files))
    data = files[hit]
    if hit and r.random() < 0.1:  # a file of a folder is missing, or is called otherwise
        rest = {name: content for name, content in files.items() if name != hit} or files
        return rest if r.random() < 0.5 else rest | {r.choice(("x", "0.0", "9.9", "c/0/0", ".zgroup", "é")): data}
    for _ in range(r.choice((1, 1, 1, 2, 4))):
        try:
            data = r.choice(ANY + KNOWN.get(format, ()))(r, data)
        except Exception:  # what is damaged already may have no fields any more
            data = flipped(r, data)
    return files | {hit: data}
