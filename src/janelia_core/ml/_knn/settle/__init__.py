"""Settle: near-ties, whose float64 intervals overlap, put in order by exact arithmetic: the map.

settle      runs of near-ties: identical centres, then double-double, then integers
kernels     keys of near-ties in double-double, compiled
"""
