"""Stored values, and looks at them: the map.

points          rows of a tensor, or a subset of them, block by block; what float64 holds of them
values          ends, finite or not, multiples of a step             value_kernels: the same, compiled
fetched         rows that were fetched from elsewhere, by their numbers
there           the same on an accelerator, without waiting for it
single          coordinates in float32, what is lost by it, and whether distances in it are exact
seen            what a look at all of them told
frame           what was seen of rows and of centres, joined: where screens take points, whether sums are exact
centres         points, and all that was made of them alone
directions      points of norm 1, for cosines
sphere          points of the unit sphere, by latitude and longitude
leading         points in a few leading directions, and the length of their rest
mask            which centres a row may be answered with
mask_bits       the same, a bit a pair, for kernels                mask_kernels: made of bytes
copies          centres that no one is answered with, since k copies come before
"""
