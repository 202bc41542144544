"""A box tree over a few leading directions and the length of the rest, for more columns than directions: the map.

offer       the screen as `choose` knows it                       cost: when it is thought of, and what it holds
prepared    a tree over images, once a look says that it pays     look: at a sample, how many directions tell enough
screen      candidates of rows; the proof of the bound
"""
