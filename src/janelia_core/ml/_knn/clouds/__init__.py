"""Many clouds, the batches of one search, by one call of a kernel for a share of them: the map.

cost        which clouds are searched so, what that takes, and how they are shared out
at_once     shares of them on workers; what is left goes the general way
kernels     lists of several rows at a time, and whether they are proven
near_ties   rows whose lists are not, once more
"""
