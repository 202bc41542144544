"""The plan of a search: which screen, which blocks, how many bytes. Pure arithmetic; no tensor is touched."""

from __future__ import annotations

from dataclasses import dataclass

from janelia_core.ml._knn.bounds import UNIT32, gamma
from janelia_core.ml._knn.packing import CUT_BITS, FULL_BITS, WORST_GAMMA, n_columns

MEBIBYTE = 1 << 20
DEFAULT_BUDGET = 64 * MEBIBYTE

# Bytes in use whatever the blocks are: temporaries of survey, packing, verify and settle (each works on chunks of
# fixed size), buffers of the matrix product. Measured by tests/test_memory.py.
_FIXED = 30 * MEBIBYTE
_PER_CANDIDATE = 256  # verify, sort and settle a candidate of a row
_PER_CELL = 4  # a score of the tile
_PER_FALLBACK_CELL = 320  # a pair of the exhaustive rung: distance, masks, padded lists

_MOST_ROWS = 4096
_MOST_CTRS = 4096


@dataclass(frozen=True)
class Plan:
    """What a search will do.

    Attributes:
        n_smps: Rows of x.
        n_ctrs: Centres searched (after dropout).
        d: Coordinates.
        k: Neighbours asked for.
        screen: "portable", or "none" where every centre is verified at once.
        reason: Why this screen.
        row_block: Rows of x worked on at a time.
        ctr_block: Centres whose scores are held at a time, at most m.
        width: Candidates kept for a row.
        operand_bits: Significant bits of the screen's operands.
        keep_packed: Packed centres are kept for all row blocks.
        fallback_rows: Rows worked on at a time by the exhaustive rung.
        fallback_ctrs: Centres worked on at a time by the exhaustive rung.
        fallback_pairs: Candidates verified at a time by the rungs above the screen.
        workspace_bytes: What the call allocates at most, beyond inputs and outputs.
    """

    n_smps: int
    n_ctrs: int
    d: int
    k: int
    screen: str
    reason: str
    row_block: int
    ctr_block: int
    width: int
    operand_bits: int
    keep_packed: bool
    fallback_rows: int
    fallback_ctrs: int
    fallback_pairs: int
    workspace_bytes: int

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.n_smps} x {self.n_ctrs} points in {self.d} dimensions, k = {self.k}",
                f"screen: {self.screen} ({self.reason})",
                f"blocks: {self.row_block} rows x {self.ctr_block} centres, {self.width} candidates a row, "
                f"packed centres {'kept' if self.keep_packed else 'made anew for every block'}",
                f"workspace: at most {self.workspace_bytes / MEBIBYTE:.1f} MiB",
            ]
        )


def make_plan(
    n_smps: int,
    n_ctrs: int,
    d: int,
    k: int,
    m: int,
    *,
    exact_products: bool = True,
    budget: int = DEFAULT_BUDGET,
) -> Plan:
    """Plan a search of n_ctrs centres, at most m at a time, within `budget` bytes where that is possible at all."""
    width = min(n_ctrs, k + 8 + k // 4)
    screen, reason = _screen(n_ctrs, d, width)
    columns = n_columns(d)
    blocks = max(0, budget - _FIXED)
    packed_bytes = 4 * columns
    keep_packed = screen == "portable" and n_ctrs * packed_bytes <= blocks // 3
    ctr_block = _clamp(blocks // 4 // packed_bytes, min(m, n_ctrs, _MOST_CTRS))
    per_row = packed_bytes + _PER_CANDIDATE * width + _PER_CELL * ctr_block
    held = packed_bytes * (n_ctrs if keep_packed else ctr_block)
    # The exhaustive rung runs inside a row block: the two share what is left.
    row_block = _clamp((blocks - held) // 2 // per_row, min(n_smps, _MOST_ROWS))
    pairs = (blocks - held) // 2 // _PER_FALLBACK_CELL
    fallback_ctrs = _clamp(pairs - k, ctr_block)
    fallback_rows = _clamp(pairs // (fallback_ctrs + k), row_block)
    needed = _FIXED + held + row_block * per_row + fallback_rows * (fallback_ctrs + k) * _PER_FALLBACK_CELL
    return Plan(
        n_smps=n_smps,
        n_ctrs=n_ctrs,
        d=d,
        k=k,
        screen=screen,
        reason=reason,
        row_block=row_block,
        ctr_block=ctr_block,
        width=width,
        operand_bits=FULL_BITS if exact_products else CUT_BITS,
        keep_packed=keep_packed,
        fallback_rows=fallback_rows,
        fallback_ctrs=fallback_ctrs,
        fallback_pairs=pairs,
        workspace_bytes=max(budget, needed),
    )


def _screen(n_ctrs: int, d: int, width: int) -> tuple[str, str]:
    if n_ctrs <= 4 * width:
        return "none", f"{n_ctrs} centres are few for {width} candidates a row: each is verified"
    if gamma(n_columns(d), UNIT32) > WORST_GAMMA:
        return "none", f"float32 sums over {d} coordinates exclude nothing"
    return "portable", "float32 product in torch operations"


def _clamp(value: int, most: int) -> int:
    return max(1, min(value, most))
