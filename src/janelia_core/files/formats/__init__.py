"""Formats of vector files, a reader and a writer each: the map.

A new one is one file here, or a folder where it takes more, which makes a `Format`, and one line in the table,
janelia_core/suffixes.py.

registry            a suffix -> its format: open_file, save_vectors
contract            what a reader and a writer are
named, cast         one of several arrays in a file; another dtype
packed              .gz, .zst: unpacked, then opened            other_names: names that libraries cannot take
raw                 rows read where they stand                  spool: what can only be decoded as a whole
tiles               rows stored in another order, put in order on disk
zip_members         which members of a zip file are opened

numpy_files         .npy, .npz                                  torch_files: .pt
binary              .fvecs, .fbin, .bin, .raw and their kin     safetensors_file
hdf5                .hdf5                                       zarr
csv                 .csv                                        arrow: .parquet, .arrow, .feather
"""
