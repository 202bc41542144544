"""The line screen: centres of one coordinate, sorted once, from which each row walks outward: the map.

offer       the screen as `choose` knows it
cost        what it takes of memory and time
screen      sorted centres, and rows that walk among them; the proof
kernels     the sort, and the walks
"""
