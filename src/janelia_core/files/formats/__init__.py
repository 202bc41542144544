"""Formats of vector files, a reader and a writer each: the map.

A new one is one file here, which makes a `Format`, and one line in the table, janelia_core/suffixes.py.

registry            a suffix -> its format: open_file, save_vectors
contract            what a reader and a writer are
named, cast         one of several arrays in a file; another dtype
packed              .gz, .zst: unpacked, then opened            other_names: names that libraries cannot take
raw                 rows read where they stand                  spool: what can only be decoded as a whole
tiles               rows stored in another order, put in order on disk

npy, npz            of NumPy                                    texmex: .fvecs, .bvecs, .ivecs
bigann              .fbin, .u8bin, .i8bin, .ibin                diskann: .bin
raw_memory          numbers alone                               hdf5
zarr_folder         chunks in files                             zarr_metadata: which, and how they are stored
torch_file          .pt, read                                   torch_save: .pt, written
safetensors_file

csv_text            lines of numbers                            csv_lines, csv_fields: of which it is made
csv_names           what its first line is                      csv_index: columns that number its rows
table               which columns with names are coordinates    transposed: columns turned into rows on disk
parquet             parquet_pages, thrift: what it takes to decode, by its own words
arrow_ipc           .arrow, .feather                            arrow_messages, arrow_numbers: where its columns stand

What a stranger's file may make a library do, and not: hdf5_names, hdf5_source, npy_header, zip_members, torch_pickle.
"""
