"""Exact k-nearest-centre search for PyTorch, in bounded memory."""
