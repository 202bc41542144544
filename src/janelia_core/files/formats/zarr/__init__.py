"""`.zarr`: the map.

folder      chunks in files
metadata    which, and how they are stored
"""
