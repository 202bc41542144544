"""Screens: cheap scores with a proven error, which exclude nearly all centres and decide nothing else: the map.

Each keeps the contract of `Candidates`; none knows another.

dense       low-precision scores by compiled kernels, compared while in registers: many dimensions, a CPU
tree        boxes walked by packets of neighbouring rows, compiled: few dimensions or clustered data, a CPU
portable    torch operations: any device, masks, and the radius of the ladder
"""
