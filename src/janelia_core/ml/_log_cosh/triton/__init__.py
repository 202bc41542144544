"""log cosh and its derivative on a GPU, in one pass over memory: the map.

elements    what can be done there, and the launch
kernels     `kernel` of the folder above, in Triton
"""
