"""Data sets of every kind that `mdtree.data` names: files, folders, tables, other packages, the user's functions."""
