"""Formats of vector files by suffix, as "module:FORMAT" in `janelia_core.files.formats`: the one table.

A format is one file there, which makes a `Format`, and one line here. Nothing is imported before a file is opened, so
that a command's help knows them all and waits for none.
"""

from __future__ import annotations

FORMATS = {
    "npy": ".numpy_files.npy:NPY",
    "npz": ".numpy_files.npz:NPZ",
    "fvecs": ".binary.texmex:FVECS",
    "bvecs": ".binary.texmex:BVECS",
    "ivecs": ".binary.texmex:IVECS",
    "fbin": ".binary.bigann:FBIN",
    "u8bin": ".binary.bigann:U8BIN",
    "i8bin": ".binary.bigann:I8BIN",
    "ibin": ".binary.bigann:IBIN",
    "bin": ".binary.diskann:BIN",
    "hdf5": ".hdf5.dataset:HDF5",
    "pt": ".torch_files.reader:PT",
    "safetensors": "safetensors_file:SAFETENSORS",
    "parquet": ".arrow.parquet:PARQUET",
    "arrow": ".arrow.ipc:ARROW",
    "csv": ".csv.text:CSV",
}
"""A module that begins with a dot is in a folder there; one with other dots is of another package."""
NAMED = {"ann-benchmarks": "janelia_core.files.answer.ann_benchmarks:ANN_BENCHMARKS"}
"""Formats that are asked for by name: no suffix means them."""
READ_ONLY = {"raw": ".binary.raw_memory:RAW", "zarr": ".zarr.folder:ZARR"}
"""Formats in which no answer is written."""
ALIASES = {"h5": "hdf5", "pth": "pt", "feather": "arrow"}
PACKED = ("gz", "zst")
"""Suffixes of packed files; the one before says what is packed."""
REFUSED = {
    "spmat": "is sparse (CSR), and only dense rows are searched; where they fit as such, big-ann-benchmarks' "
    "read_sparse_matrix(path).toarray() makes them dense, numpy.save writes them",
    "mtx": "is sparse, and only dense rows are searched; where they fit as such, scipy.io.mmread(path).toarray() "
    "makes them dense, numpy.save writes them",
    "h5ad": "holds an annotated table; write the matrix that is meant: numpy.save(.., adata.obsm['X_pca'])",
    "rangeres": "holds as many neighbours as each query has, no rows of one length",
    "part": "is part of the answer to a search: janelia-knn search --part I/N writes it, janelia-knn merge reads it",
    "zip": "is an archive; unpack it first",
    "tar": "is an archive; unpack it first",
    "tgz": "is an archive; unpack it first",
    "bz2": "is packed by bzip2; unpack it first, or pack it by gzip or zstd",
    "xz": "is packed by xz; unpack it first, or pack it by gzip or zstd",
}
"""Suffixes that are known, and not read: what to do instead."""
