"""What Triton makes of the screen's kernels for GPUs that are not here: they fit, and nothing that counts spills."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="needs the extra gpu-test")

from triton_compile import Compiled, compiled
from triton_launches import Launch, launches_of

SCANS: list[tuple[object, ...]] = [  # rows, centres, coordinates, k, metric, dtype, masked
    (10**5, 10**6, 16, 10),
    (10**5, 10**6, 64, 10),
    (10**5, 10**6, 128, 10),
    (10**4, 10**6, 200, 10),
    (10, 10**6, 128, 10),
    (10**6, 10**7, 128, 10, "euclidean", torch.float32, True),
    (10**6, 10**7, 768, 10, "euclidean", torch.float32, True),
]
OTHERS: list[tuple[object, ...]] = [
    (10**5, 10**6, 3, 1),
    (10**5, 10**6, 200, 10, "euclidean", torch.int64),
    (10**4, 10**6, 64, 60, "cosine", torch.float16),
    (10**4, 10**5, 768, 1000, "dot", torch.float64, True),
]
FEW = 8
"""Spills that do not count: beside some hundred loads, in kernels that are run once for a row or point."""


def of_chip(capability: int, sizes: tuple[object, ...], scans: bool) -> list[tuple[Launch, Compiled]]:
    """Compile each kernel of a search once, the scans or the others."""
    made: dict[str, tuple[Launch, Compiled]] = {}
    for launch in launches_of(capability, *sizes):  # type: ignore[arg-type]
        key = f"{launch.name} {launch.constants['STORE']}" if scans and launch.name == "scan" else launch.key
        if (launch.name == "scan") == scans and key not in made:
            made[key] = (
                launch,
                compiled(launch.kernel, launch.arguments, launch.constants, capability, **launch.options),
            )
    assert made
    return list(made.values())


@pytest.mark.parametrize("capability", [80, 89, 90, 100])
def test_scans_fit_multiply_on_matrix_units_and_spill_nothing(capability: int) -> None:
    for sizes in SCANS:
        for launch, kernel in of_chip(capability, sizes, scans=True):
            assert (kernel.fits, kernel.stack, kernel.spills) == (True, 0, 0), f"{sizes}: {kernel}"
            assert kernel.products > 0
            if capability == 90 and not (
                launch.constants["MASKED"] and sizes[2] == 768
            ):  # two warps share a group there
                rows, ctrs = launch.constants["BM"], launch.constants["BN"]
                assert isinstance(rows, int)
                assert isinstance(ctrs, int)
                maxima = kernel.count("FMNMX") + 2 * kernel.count("FMNMX3")
                assert maxima * kernel.threads <= 1.2 * rows * ctrs, f"{sizes}: {kernel}"


@pytest.mark.parametrize(("capability", "some"), [(80, OTHERS[1:2]), (90, OTHERS)])
def test_other_kernels_fit_and_contract_nothing_where_it_counts(
    capability: int, some: list[tuple[object, ...]]
) -> None:
    for sizes in some:
        for launch, kernel in of_chip(capability, sizes, scans=False):
            assert kernel.fits, f"{launch.name}, {sizes}: {kernel}"
            assert kernel.spills <= (0 if launch.name in ("verify", "rank") else FEW), f"{launch.name}: {kernel}"
            if launch.name in ("verify", "rank") and launch.constants.get("FORM", 0) == 0:
                assert kernel.count("DADD") > 0
                assert kernel.count("DFMA") == 0


def test_a_tile_too_large_for_a_chip_does_not_pass() -> None:
    launch = next(one for one in launches_of(90, *SCANS[2]) if one.name == "scan")  # type: ignore[arg-type]
    constants, options = launch.constants | {"STAGES": 6}, launch.options | {"num_stages": 6}
    assert not compiled(launch.kernel, launch.arguments, constants, 90, **options).fits
