"""Pieces of kernels that are written as LLVM, where Numba's own code is too slow or cannot say it: the map.

emit        types, addresses, loops and reductions in LLVM; what makes them a function that kernels call
bits        float32 as integers that order alike, counts, bits of masks
row_sums    sums over the coordinates of two rows
fused       the fused multiply-add
"""
