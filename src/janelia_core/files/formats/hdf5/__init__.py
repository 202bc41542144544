"""`.hdf5`: the map.

dataset    one dataset
names      finds it among links
source     the bytes that the library may read
"""
