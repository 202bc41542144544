"""Exact k-nearest-centre search for PyTorch, in bounded memory: the map.

ml          functions and modules of PyTorch: the search itself, and log cosh
sklearn     the same as estimators of scikit-learn
compat      calls of FAISS, SciPy, torch_cluster and pytorch3d, answered by ml
files       searches from file to file, of data larger than memory
commands    the subcommands of janelia-knn           cli: which builds its parser
demo        what `janelia-knn demo` does
suffixes    formats of files: the table                extras: optional packages, and how to install them
sizes       numbers of bytes, as people write them     printable: text of any origin as one line
durable     files that are there whole or not at all   positioned: read and write at a place of a file
"""

__version__ = "0.1.0"
