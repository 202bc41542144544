"""What is searched: how callers name it, and the open file of vectors that comes of it: the map.

input       `Input`: a file with how it is read; `open_vectors`
metric_names        metrics as people and files call them, and which one is meant
"""
