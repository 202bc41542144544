"""Settings shared by all tests: each worker process keeps to its own core."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("default", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("default")
