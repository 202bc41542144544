"""`.csv`: lines of numbers: the map.

text      reads and writes
lines     lines with their places in the file
fields    fields of a line, and what a number is
names     what the first line is
index     columns that number the rows
"""
