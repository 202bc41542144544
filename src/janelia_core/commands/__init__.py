"""The subcommands that work on files, one a module: its arguments, and a call of `janelia_core.files`.

Building the parser imports none of them, nor torch: `--help` answers at once.
"""
