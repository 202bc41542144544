"""Columns with names: Parquet and Arrow IPC: the map.

parquet          `.parquet`
parquet_pages    what it takes to decode, told before
thrift           the encoding of its footer and page headers
ipc              `.arrow`, `.feather`
messages         where the columns of a record batch stand
numbers          their numbers, piece by piece
table            which columns are coordinates
transposed       columns turned into rows on disk
"""
