"""Kernels of Triton are compiled for GPUs that are not here, and run without any: what tests of kernels stand on."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from interpreted import interpreted
from triton_compile import SHARED, Compiled, compiled, instructions

triton = pytest.importorskip("triton", reason="needs the extra gpu-test")
tl = triton.language


@triton.jit
def scores(x, c, out, tiles, W: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, STAGES: tl.constexpr):
    """out[row] is the largest product of a row of x with any of tiles * BN rows of c."""
    rows, cols = tl.arange(0, BM), tl.arange(0, W)
    xs = tl.load(x + rows[:, None] * W + cols[None, :])
    best = tl.full((BM,), float("-inf"), tl.float32)
    for tile in tl.range(0, tiles, num_stages=STAGES):
        at = tile * BN + tl.arange(0, BN)
        cs = tl.load(c + at[:, None] * W + cols[None, :])
        best = tl.maximum(best, tl.max(tl.dot(xs, tl.trans(cs), out_dtype=tl.float32), axis=1))
    tl.store(out + rows, best)


@triton.jit
def slots(counts, out, n, BLOCK: tl.constexpr):
    """Every even number below n takes a place of its own in out."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = (at < n) & (at % 2 == 0)
    slot = tl.atomic_add(counts + tl.zeros((BLOCK,), tl.int32), 1, mask=here, sem="relaxed")
    tl.store(out + slot, at, mask=here)


def made(capability: int, width: int = 64, stages: int = 2, warps: int = 8, **options: object) -> Compiled:
    half = torch.empty(1, dtype=torch.float16, device="meta")
    arguments = {"x": half, "c": half, "out": half.float(), "tiles": 9}
    constants = {"W": width, "BM": 128, "BN": 128, "STAGES": stages}
    return compiled(
        scores, arguments, constants, capability, num_warps=warps, num_stages=stages, enable_fp_fusion=False, **options
    )


@pytest.mark.parametrize(("capability", "product"), [(80, "HMMA"), (89, "HMMA"), (90, "HGMMA"), (100, "UTCHMMA")])
def test_a_kernel_for_each_gpu_has_its_matrix_instructions_and_fits(capability: int, product: str) -> None:
    kernel = made(capability)
    assert kernel.count(product) > 0
    assert kernel.count(product) == kernel.products
    assert kernel.count("FMNMX", "FMNMX3") > 0
    assert (kernel.fits, kernel.stack, kernel.spills) == (True, 0, 0), str(kernel)


def test_registers_that_do_not_suffice_spill() -> None:
    kernel = made(80, maxnreg=64)
    assert kernel.registers <= 64
    assert kernel.stack > 0
    assert kernel.spills > 0


def test_what_triton_compiles_beyond_the_shared_memory_does_not_fit() -> None:
    kernel = made(89, width=256, stages=3)
    assert kernel.shared > SHARED[89]
    assert not kernel.fits


def test_instructions_are_counted_by_name_whatever_guards_or_follows_them() -> None:
    listing = """
.L_x_1:
        /*0a10*/              @!P0 FMNMX.FTZ R1, R2, R3, !PT ;
        /*0a20*/                   FMNMX R1, R2, R3, !PT ;
        /*0a30*/                   FMNMX3 R1, R2, R3, R4, !PT ;
        /*0a40*/             @!UP1 UTCHMMA gdesc[UR4] ;
    //## FMNMX
"""
    assert instructions(listing) == {"FMNMX": 2, "FMNMX3": 1, "UTCHMMA": 1}


def run_both(x: Tensor, c: Tensor) -> tuple[Tensor, list[int], str]:
    best, counts, out = torch.empty(len(x)), torch.zeros(1, dtype=torch.int32), torch.zeros(50, dtype=torch.int32)
    scores[(1,)](x, c, best, 3, W=16, BM=16, BN=32, STAGES=2)
    slots[(4,)](counts, out, 100, BLOCK=32)
    return best, sorted(out.tolist()), type(scores).__name__


def fail(word: str) -> None:
    raise ValueError(word)


def test_kernels_that_are_interpreted_answer_as_torch_does() -> None:
    x, c = (torch.randint(-8, 9, (rows, 16), generator=torch.Generator().manual_seed(rows)).half() for rows in (16, 96))
    best, places, how = interpreted(run_both, x, c=c)
    assert torch.equal(best, (x.float() @ c.float().T).amax(1))
    assert places == list(range(0, 100, 2))
    assert how == "InterpretedFunction"
    assert "TRITON_INTERPRET" not in os.environ


def test_what_fails_there_fails_here_and_says_where() -> None:
    with pytest.raises(AssertionError, match=r"(?s)fail, where .*in fail\n.*ValueError: loud"):
        interpreted(fail, "loud")
