"""Centres in cells of near ones, of which most are left out unseen; for data in clusters: the map.

offer       the screen as `choose` knows it                       cost: when it is thought of, and what it holds
prepared    a grouping and packed cells, once a look says that they pay            look: distances of a few rows
grouping    centres in cells, near ones side by side; rows in the same order
seeding: where the middles of cells begin                         halving: near ones within a cell
centres     packed around the middle of their cell                balls: around tiles
screen      candidates of rows; the proof of the bound
ceilings    how near rows can be to a cell
scan        rows pass the cells that they need, and of these the tiles that they need
"""
