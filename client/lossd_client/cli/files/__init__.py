"""Readers of files of arrays and columns, block by block.

In order: `location` opens a path or URL; `formats` finds the format from the first bytes and picks the
reader, a `data_file.DataFile`. A file is either arrays by name (`arrays`: npy, npz, safetensors, torch) or a
table whose columns have the same rows (`csv_table`, `json_lines`, `arrow`). Memory holds a block of rows, not
the file.
"""
