"""The tree screen: a balanced box tree over the centres, walked by packets of neighbouring rows: the map.

offer       the screen as `choose` knows it                       cost: what a tree takes beside a dense product
glance      a walk among few centres, which often tells that no tree will pay
forest      what is prepared, as many trees as the memory asks for; the look before one is taken
screen      candidates of rows; the proof of the bound
planted     a tree over centres                                           stored: its arrays out, and in again, checked
crowding    how many centres float32 scores cannot part
layout      boxes and leaves in memory
build       centres -> boxes and leaves                                            select: the nth value of a coordinate
thin: of many copies of a point, those that count
order       rows in the order of the leaves
walk        packets of rows through the boxes, the nearest of a row so far in sorted lists
answer      the whole way for rows that one walk proves
within      all centres within a limit; the proof                 within_kernels: the walk
few         few rows in a kept tree, each by itself, distances and all             few_kernels: the one call
few_wide    the same of float64, by a walk and a proof
leading     a screen of its own by the same tree, over leading directions of more columns than a tree takes
"""
