"""Lists of centres that hold the answer -> the answer, on a GPU, by kernels that the screens there share: the map.

found       what was listed, and the launches
cost        what it takes of memory
sorting     the order of long lists, by torch
kernels     double-double order values, ranks, ties
"""
