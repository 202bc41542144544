"""Screens: cheap scores with a proven error, which exclude nearly all centres and decide nothing else: the map.

contract    what a screen is
rungs       listers one after the other: rows that one cannot certify try the next

None of them knows another; `choose` names them all.

dense       low-precision scores by compiled kernels, compared while in registers: many dimensions, a CPU
tree        boxes walked by packets of neighbouring rows, compiled: few dimensions or clustered data, a CPU
portable    torch operations: any device, masks, and the radius of the ladder
"""
