"""Names as letters: the first name of a woman, or a last name?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mdtree.data import DataSet
from mdtree.datasets.subset import Choice, Stored, choose
from mdtree.specification import Specification

FILE = Path(__file__).with_name("census_names.txt")
LENGTH = 11
VOCABULARY = 27
"""Nothing (0), which fills up short names from the left, and the letters a to z (1 to 26)."""

POOL = 2400
_SPLIT_SEED = 1990


def read_names() -> list[list[str]]:
    """The names of every kind, in the order of `census_names.txt`: first names of women, last names."""
    kinds: list[list[str]] = []
    for line in FILE.read_text(encoding="ascii").splitlines():
        if line.startswith("["):
            kinds.append([])
        elif line and not line.startswith("#"):
            kinds[-1].append(line)
    return kinds


def tokens(name: str) -> list[int]:
    """A name as `LENGTH` tokens, its last letter last: a recurrent network answers after the last step."""
    return [0] * (LENGTH - len(name)) + [ord(letter) - ord("a") + 1 for letter in name]


def load(train: int, label_noise: float = 0.0, seed: int = 0, test: str = "first_half") -> DataSet:
    """Tokens (n, 11) and kinds of names; 2,400 are the pool to train on, 3,600 the test set.

    Parameters
    ----------
    train : int
        Names to train on, half of them first names.
    label_noise, seed, test
        As of every data set of `mdtree.data`.
    """
    kinds = read_names()
    x = np.array([tokens(name) for names in kinds for name in names])
    y = np.repeat(np.arange(len(kinds)), [len(names) for names in kinds])
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(y))
    pool, rest = order[:POOL], order[POOL:]
    stored = Stored(x[pool], y[pool], x[rest], y[rest], "name_letters:load", len(kinds))
    return choose(stored, Choice(train, label_noise, seed, test), Specification("name_letters", "load"))
