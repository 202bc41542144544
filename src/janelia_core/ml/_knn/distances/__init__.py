"""Distances of what was found, rounded correctly to the result's dtype: the map.

distances   float64 intervals first; what rounds differently at their ends is evaluated exactly
pair_sums   the float64 sums, on several threads
"""
