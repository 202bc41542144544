"""The tree screen: a balanced box tree over the centres, walked by packets of neighbouring rows: the map.

screen      candidates of rows; the proof of the bound
forest      as many trees as the memory asks for, one at a time; the look before one is taken
cost        what a tree costs beside a dense product                 (pure arithmetic)
crowding    how many centres float32 scores cannot part
values      coordinates as the tree holds them
layout      boxes and leaves in memory
build       centres -> boxes and leaves                              thin: of many copies of a point, those that count
order       rows in the order of the leaves
walk        packets of rows through the boxes                        hits: one leaf against a packet
lists       the nearest of a row so far, sorted
answer      the whole way for rows that one walk proves
"""
