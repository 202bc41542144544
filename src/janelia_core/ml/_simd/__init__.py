"""Pieces of kernels that are written as LLVM, where Numba's own code is too slow or cannot say it: the map.

bits          float32 as integers that order alike, counts, bits of masks
octets        bits of many bytes at once
dot_tiles     scores of a tile of centres and a few rows, as upper bounds, and which of them reach a threshold
byte_rows     products of bytes of one row and one centre
gaps          what gaps between coordinates make: sums of squares, of magnitudes, the largest of these
packet_keys   distances of a packet of rows to a leaf or to boxes, and who is near enough
sorted_lists  entries of keys and ids, lists sorted from a first leaf, entries merged into lists
row_lanes     scores of a block of rows with one centre after the other, a row in each lane, and the best of them
row_halves    the same in bfloat16 at first, by groups of centres
least         the least of a group of values, and of what is left when that is taken away
lane_lists    all distances to as many rows as vectors have lanes, and the nearest of each
lane_keys     keys of sixteen rows at once, one a lane, the k-th least of each, who is within a limit, and ranks
row_sums      sums over the coordinates of two rows
run_tiles     the same of a few rows with a few centres at once, and which of them are low
gap_tiles     distances of a few rows and a tile of centres by gaps, and which of them are low
fused         the fused multiply-add
        |
intrinsics    what kernels call, and the arguments that they hand over
emit          LLVM's types and instructions; vectors, addresses, loops, reductions
"""
