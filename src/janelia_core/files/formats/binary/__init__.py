"""Numbers row after row, after a few bytes at most: the map.

texmex        `.fvecs`, `.bvecs`, `.ivecs`
bigann        `.fbin`, `.u8bin`, `.i8bin`, `.ibin`
diskann       `.bin`
raw_memory    `.raw`
"""
