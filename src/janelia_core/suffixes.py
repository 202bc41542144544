"""Formats of vector files by suffix, as "module:FORMAT" in `janelia_core.files.formats`: the one table.

A format is one file there, which makes a `Format`, and one line here. Nothing is imported before a file is opened, so
that a command's help knows them all and waits for none.
"""

from __future__ import annotations

FORMATS = {
    "npy": "npy:NPY",
    "npz": "npz:NPZ",
    "fvecs": "texmex:FVECS",
    "bvecs": "texmex:BVECS",
    "ivecs": "texmex:IVECS",
    "fbin": "bigann:FBIN",
    "u8bin": "bigann:U8BIN",
    "i8bin": "bigann:I8BIN",
    "ibin": "bigann:IBIN",
    "hdf5": "hdf5:HDF5",
    "pt": "torch_file:PT",
    "safetensors": "safetensors_file:SAFETENSORS",
    "parquet": "parquet:PARQUET",
    "arrow": "arrow_ipc:ARROW",
    "csv": "csv_text:CSV",
}
"""A module with dots in its name is one of another package."""
ALIASES = {"h5": "hdf5", "pth": "pt", "feather": "arrow"}
