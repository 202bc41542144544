"""Screens: cheap scores with a proven error, which exclude nearly all centres and decide nothing else: the map.

contract    what a screen is
keeping     what a screen may offer beside, for centres that are kept
rungs       listers one after the other: rows that one cannot certify try the next
ready       lists that were made of all rows of a call as these met the centres
row_by_row  rows that a kernel answers or leaves in doubt: nothing is listed       output: where it puts answers
rerank      lists that hold the answer -> the answer, on a GPU
suited      why values do not suit a screen, as several of them say it

None of them knows another; `choose` names them all.

line        centres of one coordinate sorted, from which rows walk outward, compiled: a CPU
direct      one pass over the centres as they are stored, by compiled kernels: few rows, a CPU
differences   distances that no product makes, compared while in registers, compiled: a CPU
sorted      all distances of a row and a sort, compiled: many neighbours, a CPU
codebook    one pass over the rows, blocks of which meet few centres at once: many rows, a CPU
dense       low-precision scores by compiled kernels, compared while in registers: many dimensions, a CPU
            and dense.cells: the same among cells of near centres, of which most are left out: data in clusters
tree        boxes walked by packets of neighbouring rows, compiled: few dimensions or clustered data, a CPU
            and tree.leading: the same over a few leading directions: more columns than directions, a CPU
triton      low-precision scores by matrix units, filtered where they are made, and all that follows: a GPU
boxes       boxes of centres along a curve, walked by tiles of neighbouring rows, in Triton: few dimensions, a GPU
portable    torch operations: any device, masks, and the radius of the ladder
"""
