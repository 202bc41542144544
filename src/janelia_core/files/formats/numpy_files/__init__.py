"""`.npy` and `.npz`: the map.

npy       one array
header    what is before its numbers
npz       several, in a zip file
"""
