"""What is searched: how callers name it, and the open file of vectors that comes of it: the map.

input           `Input`: what callers name, with how it is read; `open_vectors`
which_files     a folder, a pattern -> files, in natural order
several         several files as one
metric_names    metrics as people and files call them, and which one is meant
"""
