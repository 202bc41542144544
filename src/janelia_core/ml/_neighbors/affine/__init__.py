"""Sums of affine maps over (row, neighbour) pairs, for PiecewiseLinear: the map.

gradients   the sums as a differentiable operation, of every order
sums        by kernels or torch operations
blocks      shared out to threads
kernels     the loops
triton      the same on a GPU
"""
