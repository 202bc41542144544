"""Distances of what was found, rounded correctly to the result's dtype: the map.

distances   shared out to threads, block by block
work        float64 intervals first; what rounds differently at their ends is evaluated exactly
angles      those of places on the sphere
off_cpu     the same on another device, which is waited for once or twice
pair_sums   those of listed pairs, by compiled kernels
rounding_kernels   distances of listed pairs: float32 where float64 leaves no doubt, float64 where double-doubles do
ragged      those of ragged pairs, by kernels of its own: ragged_kernels
gap_kernels        the same of manhattan and chebyshev distances
triton      all of them in one launch on a GPU, in double-doubles
"""
