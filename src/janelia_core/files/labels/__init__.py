"""Filters by labels: a query meets the centres that share a label with it: the map.

open        a file of labels, of any of these kinds: `opened_labels`
lists       what an open one gives: lists of labels, row after row
compressed  labels row after row in one array, where each row's begin in another
spmat       `.spmat`, the sparse matrices of big-ann-benchmarks
text        a line a row, labels between commas, as DiskANN reads them
integers    rows of whole numbers in any format of vectors
shared      which centres of a block each query may have        tiles: the same as a mask, a tile at a time
"""
