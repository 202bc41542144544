"""What Triton makes of a kernel for a GPU that is not here: registers, stack, shared memory, instructions.

The wheel of Triton brings NVIDIA's assembler and disassembler, so all of this is asked on a CPU. Nothing here may run
where TRITON_INTERPRET was set before kernels were decorated: such kernels are Python, and `compiled` says so.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs the extra gpu-test")

K = 1024
SHARED = {80: 163 * K, 86: 99 * K, 89: 99 * K, 90: 227 * K, 100: 227 * K, 120: 99 * K}
"""Bytes of shared memory that a block may have, by compute capability. Triton compiles beyond them in silence."""

MATRIX = ("HMMA", "HGMMA", "UTCHMMA", "IMMA", "IGMMA", "UTCIMMA", "QMMA", "QGMMA", "UTCQMMA")
"""Instructions of tensor cores."""

TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.bool: "i1",
    torch.uint8: "u8",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}


class Compiled(NamedTuple):
    """One kernel for one GPU. Counts are those of the code: of a loop, its body once, or as often as it is unrolled."""

    capability: int
    threads: int
    registers: int
    stack: int
    shared: int
    instructions: Counter[str]
    ptx: str
    sass: str

    def count(self, *names: str) -> int:
        """Return how many machine instructions have one of these names; what follows a dot is no part of a name."""
        return sum(self.instructions[name] for name in names)

    @property
    def spills(self) -> int:
        """Loads and stores of memory that stands in for registers, or for arrays that registers cannot index."""
        return self.count("LDL", "STL")

    @property
    def products(self) -> int:
        """Instructions of tensor cores."""
        return self.count(*MATRIX)

    @property
    def fits(self) -> bool:
        """Whether the GPU can launch it: its shared memory and its registers suffice."""
        return self.shared <= SHARED[self.capability] and self.registers * self.threads <= 1 << 16

    def __str__(self) -> str:
        most = ", ".join(f"{name} {n}" for name, n in self.instructions.most_common(12))
        return (
            f"sm_{self.capability}: {self.threads} threads of {self.registers} registers, stack {self.stack}, "
            f"spills {self.spills}, shared {self.shared / K:.0f} of {SHARED[self.capability] // K} K, {most}"
        )


def compiled(
    kernel: Any, arguments: Mapping[str, object], constants: Mapping[str, object], capability: int, **options: object
) -> Compiled:
    """Compile a kernel of Triton for a compute capability (80, 90, ...) and take it apart.

    Args:
        kernel: What `triton.jit` made.
        arguments: By name, a tensor of the type (on any device, "meta" included; taken for aligned to 16 bytes), a
            number, or Triton's name of the type: "*fp16", "i32", "i32:16" of multiples of 16,
            "tensordesc<fp16[128, 64]>".
        constants: Values of the arguments that are `tl.constexpr`.
        capability: Of the GPU.
        options: As at a launch: num_warps, num_stages, maxnreg, enable_fp_fusion (Triton 3.9 warns if it is left out).
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import JITFunction

    if not isinstance(kernel, JITFunction):
        raise TypeError(f"not a kernel to compile, but {type(kernel).__name__}: was TRITON_INTERPRET set?")
    named = {name: "constexpr" if name in constants else _type(arguments[name]) for name in kernel.arg_names}
    if left := sorted(set(arguments) - set(named)):
        raise TypeError(f"{kernel.__name__} has no arguments {left}")
    aligned = {(i,): [["tt.divisibility", 16]] for i, of in enumerate(named.values()) if of.endswith(":16")}
    signature = {name: of.removesuffix(":16") for name, of in named.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=dict(constants), attrs=aligned)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage = _told(tools / "cuobjdump", "--dump-resource-usage", file.name)
        sass = _told(tools / "nvdisasm", "-c", file.name)
    used = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert used, usage
    threads = 32 * made.metadata.num_warps
    registers, stack = map(int, used.groups())
    ptx = made.asm["ptx"]
    return Compiled(capability, threads, registers, stack, made.metadata.shared, instructions(sass), ptx, sass)


def instructions(sass: str) -> Counter[str]:
    """Return how often each instruction stands in a listing of nvdisasm: `/*0a10*/  @!P0 FMNMX.FTZ R1, ... ;`."""
    return Counter(re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)", sass, re.MULTILINE))


def _type(value: object) -> str:
    if isinstance(value, Tensor):
        return f"*{TYPES[value.dtype]}:16"
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, int):
        return "i32" if -(2**31) <= value < 2**31 else "i64"
    if isinstance(value, float):
        return "fp32"
    if isinstance(value, str):
        return f"{value}:16" if value.startswith("*") and ":" not in value else value
    raise TypeError(f"no type of a kernel's argument: {value!r}")


def _told(tool: Path, *arguments: str) -> str:
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout
