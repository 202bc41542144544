"""Exact nearest neighbours from file to file, of data larger than memory: the map.

The steps of a search::

    search      search_files: checks, plan, stream, answer             outlook: plan_files   recall: verify_files
      |                                                                 describe: info_file
      |  formats     a suffix -> who opens it, who writes it            contract, errors, named, cast
      |                npy, npz, texmex, bigann, hdf5, torch_file, safetensors_file, parquet, csv_text
      |                raw: rows read where they stand                  spool: what can only be decoded as a whole
      |  layout      sizes, memory -> blocks, loop order, bytes read    (pure arithmetic)
      |  journal     which steps are finished, on disk                  fingerprint: are these the same inputs?
      |                                                                 positioned: read and write at a place
      |  stream      the loop: blocks of queries meet blocks of centres, each meeting is written down
      |                (ml._knn.merge finds the k best of a block and merges them into the k best so far)
      |  answer      finished arrays -> the file asked for, renamed into place
      v
    OUT
"""

from janelia_core.files.describe import FileInfo, info_file
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats import open_vectors, save_vectors
from janelia_core.files.outlook import FilePlan, plan_files
from janelia_core.files.recall import Recall, verify_files
from janelia_core.files.search import FileReport, search_files
from janelia_core.files.stream import Progress

__all__ = [
    "FileInfo",
    "FilePlan",
    "FileReport",
    "Progress",
    "Recall",
    "VectorFileError",
    "info_file",
    "open_vectors",
    "plan_files",
    "save_vectors",
    "search_files",
    "verify_files",
]
