"""Stored values, and looks at them: the map.

points          rows of a tensor, or a subset of them, block by block; what float64 holds of them
values          ends, finite or not, multiples of a step             value_kernels: the same, compiled
frame           one look at rows and centres: how large? on a grid? where is their middle?
directions      points of norm 1, for cosines
mask            which centres a row may be answered with
copies          centres that no one is answered with, since k copies come before
"""
