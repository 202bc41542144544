"""Sums over pairs on a GPU, without a temporary of a pair's vector, a wait, or an atomic addition: the map.

sums        what can be done there, and the launches: by row, and by centre over the pairs in the order of their centres
kinds       what pairs add
kernels     a row or a centre and its pairs
vectors     what they add, in a kernel
"""
