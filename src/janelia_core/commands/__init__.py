"""The subcommands: the map.

search, radius, plan, info, verify      one a file: its arguments, and a call of `janelia_core.files`
warm                            likewise, of `janelia_core.ml.warming`
demo                            likewise, of `janelia_core.demo`
arguments                       what several of them take
bar                             how far a search is, on a terminal

Building the parser imports none of them, nor torch: `--help` answers at once.
"""
