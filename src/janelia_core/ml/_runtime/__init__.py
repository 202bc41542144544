"""What this process can do, and how work is done in it: the map. Nothing here knows what is computed.

machine       what a plan may count on: exact products, compiled kernels, formats, threads
workers       threads for as long as a call lasts
jit           Numba compilation as this package wants it
transforms    torch's private names
"""
