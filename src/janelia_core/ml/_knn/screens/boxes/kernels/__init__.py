"""Triton kernels of the boxes screen, imported where a tensor is on a GPU: the map.

curve     points -> their places along Hilbert's curve
arrange   points in that order, and the boxes of their leaves
nearby    a row's neighbours on the curve -> a bound that k centres reach
walk      boxes within the bounds of a tile of rows -> leaves -> lists of centres
tighten   lists -> a lower bound, and what reaches it
"""
