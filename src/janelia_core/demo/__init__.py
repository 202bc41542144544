"""What `janelia-knn demo` does: the map.

places.py            234,908 places as points on the unit sphere
run.py               the search, its measure, its check, the lines printed; the only file that composes the others
resident_memory.py   the memory that a call really takes
table.py             the table of some places and their neighbours
cell_colours.py      neighbouring cells differ in colour
world_map.py         the picture
"""
