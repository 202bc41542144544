"""Settings shared by all tests: each worker process keeps to its own core, and calls wait for their kernels."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["JANELIA_CORE_KERNELS"] = "wait"  # tests/test_first_call.py does without

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("default", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("default")
