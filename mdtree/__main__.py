"""`python -m mdtree` is the command `mdtree`."""

from mdtree.cli import main

main()
