"""Where an answer goes and what is in its file: the map.

answer          finished arrays -> the file asked for, in its place
ragged          as many neighbours a query as there are: spooled, then the file asked for, in its place
ann_benchmarks  a whole data set of ann-benchmarks: what was searched, neighbours and distances in one file

place           links followed; names of what is unfinished; can a file be put there at all?
room            bytes that the disk must have
standard_output     `-`: made in TMPDIR, then written out
conventions     distances as other tools tell them
"""
