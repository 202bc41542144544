"""A search in parts, by processes that share no more than files: the map.

ranges      which centres a part is of, and whether parts are those of one whole
record      what a part keeps of a row: numbers, float64 order values, rounded distances, what is known of all these
header      what a part's file says of itself: of which search, and which part of that
part_file   NAME.part: header, rows at fixed places, digests; written, opened, read by ranges of rows
answer      where the answer of a part's search goes
lists       what is listed of some rows: brought to one scale, sorted, cut where the rest is farther
settling    near-ties between parts, for which centres are read
gather      the lists of all parts for some rows, made one in the exact order
together    whether parts belong together, and are all there
asked       what a merge is asked: what the parts were, of files that may be elsewhere now
merge       merge_files: parts that belong together -> the file that the whole search would have written
"""
