"""`.pt`: the map.

reader      what is read of it, and where it stands
pickle      which pickles are opened at all
writer      what is written, block by block
"""
