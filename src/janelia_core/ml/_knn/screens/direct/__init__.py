"""The direct screen: one pass over the centres as they are stored, for few rows: the map.

offer       the screen as `choose` knows it; lists are made as rows meet the centres
cost        what it takes of memory and time
screen      a pass shared by all workers; the proof of the bound
rows        rows as kernels take them, and what keys prove
few         the same in little, for a brief search       lists       joined and closed
kernels     keys of all centres, block by block, and of each row the lowest
"""
