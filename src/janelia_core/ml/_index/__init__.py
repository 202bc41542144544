"""Centres kept between calls: the map.

stored      the file of kept centres
"""
