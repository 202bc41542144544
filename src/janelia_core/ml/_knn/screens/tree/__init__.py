"""The tree screen: a balanced box tree over the centres, walked by packets of neighbouring rows: the map.

screen      candidates of rows; the proof of the bound
forest      as many trees as the memory asks for, one at a time; the look before one is taken
cost        what a tree costs beside a dense product                 (pure arithmetic)
crowding    how many centres float32 scores cannot part
values      coordinates as the tree holds them
build       centres -> boxes and leaves                              order: rows in the order of the leaves
walk        packets of rows through the boxes, the nearest of a row so far in sorted lists
answer      the whole way for rows that one walk proves
"""
