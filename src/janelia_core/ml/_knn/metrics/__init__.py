"""What centres are ordered by: the map.

A metric is one file, and one line in the table of `registry`.

registry    the table of all metrics, by name
metric      what a metric is: all that the search asks of one
differences what metrics of x - c share: the next three
euclidean   |x - c|^2, and what is handed back is its root, or the square itself
manhattan   |x_1 - c_1| + |x_2 - c_2| + ..
chebyshev   the largest of these
dot         -<x, c>
gaps        metrics of differences, as kernels are told of them
cosine      1 - <x, c> / (|x| |c|)
haversine   the angle between places on the unit sphere, by latitude and longitude; ordered by their chord
mapped      metrics such as this one, which map points before the search

The smallest order value is nearest. What a metric must say, in plain numbers and by torch operations, is enough for
every search to be exact; its `form` opens the screens and compiled kernels that know its formula.
"""
