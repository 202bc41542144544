"""Small problems: a look at all float64 distances at once, without blocks, screens or threads: the map.

cost        where that is quicker than a screen, and what it takes
at_once     by torch operations or, when these have cost enough, by kernels
terms       what that kernel is told of a metric
lanes       the kernel: sixteen rows at a time, of every metric, up to 32 neighbours      denied: under a mask
kernels     for more neighbours: distances, a product that is checked, and the k nearest of a row
masked      a look under a mask                 masked_kernels: for more neighbours, of the centres that a row may have
tournament  the k nearest by a tree of matches, in registers
canary      is a float32 product of this process as good as its bound says?
"""
