"""What a `.pt` file may make torch do: build tensors that are stored as they are, within a budget.

torch.load with weights_only runs no code of a file, but it does make a bytearray of any length, unpacks what it is
told to, and takes packed numbers for plain ones where it maps them.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from pathlib import Path

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.zip_members import member_start, zip_members

_OPERATION = 128  # bytes that torch takes for one operation of a pickle, at most
_LONGEST = 100  # letters of a name that is called: over a long one torch's own message takes minutes
_MOST = 100_000  # operations: a tensor takes some 40, and torch a quarter of a second for all of them
_WRITTEN = set(
    re.findall(
        r"\w+",
        """
        PROTO MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE BININT BININT1
        BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINSTRING BINPUT LONG_BINPUT BINGET LONG_BINGET APPEND APPENDS SETITEM
        SETITEMS BINPERSID GLOBAL REDUCE BUILD NEWOBJ
        """,
    )
)
_OPERATIONS = {operation.code: operation for operation in pickletools.opcodes if operation.name in _WRITTEN}
"""What torch.save writes; others may warn while they are read."""
_CALLS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_parameter_with_state",
}


def check_archive(path: Path, memory: int) -> None:
    """Raise VectorFileError where a file is no archive of plain tensors that opens within so many bytes."""
    try:
        with zip_members(path, memory) as archive:
            _check_operations(path, _pickle(path, archive.infolist(), memory), memory)
    except (VectorFileError, FileNotFoundError):
        raise
    except Exception as error:  # of zipfile and pickletools, which have no common class
        raise VectorFileError(
            path, f"is no archive as torch.save writes it and weights_only needs it ({error}); save it anew"
        ) from error


def _pickle(path: Path, members: list[zipfile.ZipInfo], memory: int) -> bytes:
    names = {info.filename for info in members}
    if len(names) != len(members):
        raise VectorFileError(path, "holds several members of one name")
    for info in members:
        if info.compress_type != zipfile.ZIP_STORED:
            raise VectorFileError(path, f"{info.filename} is packed; load the file and save it anew with torch.save")
    wanted = members[0].filename.partition("/")[0] + "/data.pkl" if members else "data.pkl"
    if wanted not in names:
        raise VectorFileError(path, f"holds no {wanted}, which torch.save writes first")
    info = next(info for info in members if info.filename == wanted)
    if info.file_size > memory // 8:
        raise VectorFileError(path, f"{wanted} has {info.file_size} bytes; {memory // 8} are at hand for it")
    with path.open("rb") as file:
        file.seek(member_start(path, info))
        return file.read(info.file_size)


def _check_operations(path: Path, program: bytes, memory: int) -> None:
    """Refuse a pickle that does what no plain tensor needs, or has more operations than memory."""
    stream, number = io.BytesIO(program), 0
    while (code := stream.read(1).decode("latin-1")) != ".":
        at, number = stream.tell() - 1, number + 1
        if number > min(memory // _OPERATION, _MOST):
            raise VectorFileError(path, f"its pickle has more than {number - 1} operations; save the tensor alone")
        operation = _OPERATIONS.get(code)
        if operation is None:  # or the pickle ends without the operation that ends it
            raise VectorFileError(path, f"its pickle has {code!r} at byte {at}, which torch.save never writes")
        if operation.name == "GLOBAL":  # pickletools would warn of odd names
            wanted = " ".join(stream.readline().decode("latin-1").removesuffix("\n") for _ in range(2))
            if wanted not in _CALLS and (len(wanted) > _LONGEST or not _is_type(wanted)):
                raise VectorFileError(
                    path, f"needs {wanted} at byte {at} of its pickle, which weights_only does not load; save a tensor"
                )
            continue
        argument = operation.arg.reader(stream) if operation.arg else None
        if operation.name == "PROTO" and argument != 2:
            raise VectorFileError(path, f"is a pickle of protocol {argument}; torch.save writes 2 by itself")


def _is_type(name: str) -> bool:
    """Tell whether a name is one of torch's own of numbers, storages, shapes or devices, of which none is large."""
    module, _, attribute = name.partition(" ")
    small = attribute.endswith("Storage") or attribute in ("Size", "device") or attribute.lower() == attribute
    return module in ("torch", "torch.storage") and attribute.isidentifier() and small
