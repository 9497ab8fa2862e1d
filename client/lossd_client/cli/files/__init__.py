"""Reads arrays and columns from files, some rows at a time.

A file is either arrays by name, each with a shape of its own (`arrays`), or a table, whose columns have the
same rows (`table`). Nothing of it is kept: memory holds a block of rows, not the file.
"""
