"""Exact k-nearest-centre search for PyTorch, in bounded memory."""

__version__ = "0.1.0"
