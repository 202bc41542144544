"""`.pt`: the map.

reader    opens files of tensors                writer    writes them
pickle    which pickles are read
"""
