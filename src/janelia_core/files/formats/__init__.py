"""Formats of vector files, a reader and a writer each: the map.

A new one is one file here, which makes a `Format`, and one line in the table, janelia_core/suffixes.py.

registry            a suffix -> its format: open_file, save_vectors
contract            what a reader and a writer are
named, cast         one of several arrays in a file; another dtype
raw                 rows read where they stand                  spool: what can only be decoded as a whole
tiles               rows stored in another order, put in order on disk

npy, npz            of NumPy                                    texmex: .fvecs, .bvecs, .ivecs
bigann              .fbin, .u8bin, .i8bin, .ibin                hdf5
parquet, csv_text   columns with names                          safetensors_file
torch_file          .pt, read                                   torch_save: .pt, written

What a stranger's file may make a library do, and not: hdf5_names, hdf5_source, npy_header, zip_members, torch_pickle.
"""
