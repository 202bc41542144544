"""What `janelia-knn demo` does.

places.py            234,908 places as points on the unit sphere
run.py               searches, measures, checks, prints:   the only file that composes the others
resident_memory.py   the memory that a call really takes
table.py             the table of some places and their neighbours
cell_colours.py      neighbouring cells differ in colour
world_map.py         the picture
"""
