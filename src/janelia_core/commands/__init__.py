"""The subcommands: the map.

search, merge, radius, plan, info, verify      one a file: its options, and a call of `janelia_core.files`
warm                            likewise, of `janelia_core.ml.warming`
demo                            likewise, of `janelia_core.demo`
options                         what several of them take          values: as what a text is read
subcommand                      how each of them ends: one line, and a code of `exit_codes`
exit_codes                      the codes, and signals that end a command
progress                        how far a search is: as a bar, as lines of a log, as JSON

Nothing of `files` nor torch is imported before a subcommand runs, and little else: `--help` answers at once.
"""
