"""Write `census_names.txt` from the name lists of the US census of 1990.

    python census_names.py FOLDER > census_names.txt

FOLDER holds `dist.female.first`, `dist.male.first` and `dist.all.last` as the Census Bureau published them, by falling
frequency: a name, its frequency in percent, the sum of the frequencies, the rank.
"""

from __future__ import annotations

import argparse
from pathlib import Path

MOST = 3000
"""Names of each kind."""

LETTERS = range(3, 12)
"""Lengths that are kept."""

HEAD = """\
# The most frequent first names of women and the most frequent last names in the United States census of 1990, 3 to 11
# letters, by falling frequency. A name that is both is a first name; last names that men bear as first names are left
# out. Source: US Census Bureau, "Frequently Occurring Surnames and First Names from the 1990 Census", a work of the
# United States government and as such in the public domain; read from the package `names` 0.3.0.
"""


def names_of(path: Path) -> list[str]:
    """The names of a list in lower case, in its order; those of other lengths than `LETTERS` are left out."""
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return [words[0].lower() for words in lines if words and len(words[0]) in LETTERS]


def kinds_of_names(folder: Path) -> dict[str, list[str]]:
    """`MOST` names of each kind, none in both."""
    women, men, last = (names_of(folder / f"dist.{kind}") for kind in ("female.first", "male.first", "all.last"))
    first = {*women, *men}
    return {"first": women[:MOST], "last": [name for name in last if name not in first][:MOST]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    print(HEAD, end="")
    for kind, names in kinds_of_names(parser.parse_args().folder).items():
        print(f"[{kind}]", *names, sep="\n")


if __name__ == "__main__":
    main()
