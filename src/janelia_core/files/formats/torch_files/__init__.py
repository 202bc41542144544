"""`.pt`: the map.

reader    reads
pickle    which pickles are read
writer    writes
"""
