"""Lists of centres that hold the answer -> the answer, on a GPU, by kernels that the screens there share: the map.

sweeping    rows block by block, answered on the device           reads: which values kernels read
found       what was listed, and the launches                   doubt: why a row is in doubt
cost        what it takes of memory
sorting     the order of long lists, by torch
kernels     double-double order values, ranks, ties
"""
