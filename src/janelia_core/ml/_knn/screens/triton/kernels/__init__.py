"""Triton kernels of the screen: the map. Imported where a tensor is on a GPU, and never else.

placement   where centres lie -> a middle, a factor, an order of their norms, extremes of tiles
packing     points -> float16 operands, and the numbers that pay for all they lose
scan        tiles of products -> maxima of groups of centres (store), or lists of groups (filter)
selection   the k-th best of what is listed -> a proven threshold; what falls below it goes
members     listed groups -> centres that reach the threshold
verification centres -> order values in double-double, with a measured error
ranking     order values -> the answer, and where it is in doubt
"""
