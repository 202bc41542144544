"""The file of kept centres: the map.

A valid safetensors file that says of itself what every byte must be::

    saved       what an index is made of <-> arrays by name, and facts
      |
    container   arrays and facts <-> a file: written, read or mapped, checked
      |
      |  header      what stands before the arrays; nothing in it is believed before its seal
      |  digests     SHA-256 of arrays, by several threads; the fingerprint of centres
      |  kinds       the types of numbers, as safetensors, NumPy and torch call them
      |  target      the file is written beside its place, under a name that others leave alone or clear away
      v
    errors      one line with the file, what was found, and what to do

Nothing here knows what a screen prepares: a part is arrays and facts.
"""
