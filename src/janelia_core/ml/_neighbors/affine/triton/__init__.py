"""Sums of affine maps on a GPU: the map.

sums        what can be done there, and the launches; sums by centre are those of derivatives/triton
kernels     a row and the maps of its neighbours
"""
