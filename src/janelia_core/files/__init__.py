"""Exact nearest neighbours from file to file, of data larger than memory: the map.

The steps of a search::

    search      search_files: checks, stream, answer                   plan: plan_files   verify: verify_files
      |                                                                 info: info_file     outlook: a sample
      |  question    what is asked; checked, with blocks: the work
      |  inputs      what is searched, as callers name it -> an open file of vectors
      |  labels      who may be found by whom, where that is a question of labels
      |  formats     a suffix -> who opens it, who writes it            errors: what is wrong with a file
      |  layout      sizes, memory -> blocks, loop order, bytes read    (pure arithmetic)
      |  disk        what is written, and where                        (likewise)
      |  resumable   the search that can go on, and what is made of it while it still could
      |  journal     which steps are finished, on disk                  lock: one process at a time
      |  fingerprint, unchanged    are these the same inputs? files by state and sample, rows by their blocks' digests
      |  steps       what is planned for pairs of blocks; their kernels are loaded
      |  stream      the loop: blocks of queries meet blocks of centres, each meeting is written down
      |  blocks        of rows: read, digested, known again
      |  command_line  what to type to go on; shell: its words         recall, stored_distances: what verify counts
      |                (ml._knn.merge finds the k best of a block and merges them into the k best so far)
      |  progress    how far it is, for who asks meanwhile
      |  answer      finished arrays -> the file asked for, renamed into place; whether that can be, told before
      v
    OUT

A search in parts::

    search      with part=: the same, but that lists go to NAME.part         parts: the map of what they are
      v
    NAME.part   of each part
      |               the parts for some rows, made one; a journal as for a search
      v
    OUT

A radius search has no journal::

    radius         radius_files: checks, loop, answer
      |  within         the loop: members of a block of queries, then their order
      |  answer.ragged  as many neighbours as there are: spooled, then the file asked for, renamed into place
      v
    OUT
"""

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.registry import save_vectors
from janelia_core.files.info import FileInfo, info_file
from janelia_core.files.inputs.input import Input, open_vectors
from janelia_core.files.lock import UnlockedWarning
from janelia_core.files.parts.merge import MergeReport, merge_files
from janelia_core.files.plan import FilePlan, plan_files
from janelia_core.files.progress import Progress, follow_files
from janelia_core.files.radius import RadiusReport, radius_files
from janelia_core.files.recall import Recall
from janelia_core.files.search import FileReport, search_files
from janelia_core.files.stored_distances import DistanceCheck
from janelia_core.files.verify import verify_files

__all__ = [
    "DistanceCheck",
    "FileInfo",
    "FilePlan",
    "FileReport",
    "Input",
    "MergeReport",
    "Progress",
    "RadiusReport",
    "Recall",
    "UnlockedWarning",
    "VectorFileError",
    "follow_files",
    "info_file",
    "merge_files",
    "open_vectors",
    "plan_files",
    "radius_files",
    "save_vectors",
    "search_files",
    "verify_files",
]
