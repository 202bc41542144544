"""Neighbours within a radius as a differentiable operation: the map.

call        radius(), radius_count(): from arguments to what is found
radii       r, checked: one number, or one for each row
found       RadiusNeighbors: what radius hands back
members     who belongs to whom: directly, or as an operator
groups      those of a batch: many small ones together, the others one by one
nearest     the nearest of those within a radius, as many rows at a time as memory holds
cut         nearest neighbours, of which those within a radius stay
distances   of ragged pairs, through those of `derivatives`
graph       radius_graph()
"""
