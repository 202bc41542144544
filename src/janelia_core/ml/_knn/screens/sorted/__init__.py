"""The sorted screen: all distances of a row, and a sort of the nearest, for many neighbours: the map.

offer       the screen as `choose` knows it
cost        what it takes of memory and time
screen      rows answered without lists; the proofs
distances   distances of a few rows and all centres
select      which centres may be among the first k
entries     distances and slots in one integer each, and their sort
runs        entries so close that rounding may have swapped them
answer      all of this, row by row, and where answers are written
"""
