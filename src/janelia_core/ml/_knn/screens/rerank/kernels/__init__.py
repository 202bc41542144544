"""Kernels of re-ranking, imported where a tensor is on a GPU and never else: the map.

reading       stored values, as kernels compute with them
verification  centres -> order values in double-double, with a measured error
ranking       order values -> the answer, and where it is in doubt
"""
