"""Verify: float64 order values of the candidates with their errors, in order: the map.

verify          candidates -> Ordered; lists whose order is beyond doubt are answered at sight
kernels         the same for a CPU, compiled
pair_kernels    order values of pairs, compiled
"""
