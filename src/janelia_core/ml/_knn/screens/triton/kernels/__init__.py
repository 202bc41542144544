"""The kernels of the Triton screen, imported where a tensor is on a GPU and never else: the map.

placement   where centres lie -> a middle, a factor, an order of their norms, extremes of tiles
packing     points -> float16 operands, and the numbers that pay for all they lose
scan        tiles of products -> maxima of groups of centres (store), or lists of groups (filter)
selection   the k-th best of what is listed -> a proven threshold; what falls below it goes
members     listed groups -> centres that reach the threshold
"""
