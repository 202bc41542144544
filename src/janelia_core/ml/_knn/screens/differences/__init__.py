"""The screen by differences: float32 distances that no matrix product makes, of all pairs, in registers: the map.

offer       the screen as `choose` knows it; nothing is prepared but what centres are known by
cost        what it takes of memory and time
screen      candidates of rows; the proof of the bound
kernels     centres into columns, keys of all pairs, and of each row the lowest
"""
