"""Pieces of kernels that are written as LLVM, where Numba's own code is too slow or cannot say it: the map.

bits        float32 as integers that order alike, counts, bits of masks
dot_tiles   scores of a tile of centres and a few rows, as upper bounds, and which of them reach a threshold
row_sums    sums over the coordinates of two rows
fused       the fused multiply-add
      |
intrinsics  what kernels call, and the arguments that they hand over
emit        LLVM's types and instructions; vectors, addresses, loops, reductions
"""
