"""Centres that are kept and asked again and again: the map.

ml/index.py     CenterIndex, the public class
      |
center_index    the class: a search among kept centres, as `knn` makes it
plans           what a search would run, and what is paid towards more
few_rows        a few rows at once, in microseconds
memory          what may be kept, and what is, in words
changes         more centres, or fewer: parts that stay, and a new one
versions        whether centres are still what they were
watched         an index of a tensor that may change
saving          an index in pieces, and back
stored          the file of kept centres

What is searched stands in _knn: the parts of an index, what pays to keep of them, and the screens, which prepare it.
"""
