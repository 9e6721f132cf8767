"""The best prefix sum of a sequence that grows by additions at any position, for many sequences at once.

`best_prefixes` gives the answer after each of a list of additions. Short sequences are written out as one dense array;
long ones go through `BestPrefix`, which takes a Python step per addition and level but touches far fewer numbers.
"""

from __future__ import annotations

import math

import numpy as np

_DENSE_NUMBERS = 2000  # gaps * lanes up to which touching all of them is faster than walking up the tree (measured)
_DENSE_TOTAL = 4_000_000  # additions * gaps * lanes up to which they are kept: 32 MB an array


def best_prefixes(bonus: np.ndarray, positions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """max over gaps g of bonus[g] + sum of the values at positions < g, before and after each of k additions.

    Parameters
    ----------
    bonus : ndarray, shape (n_positions + 1,)
        A constant per gap, see `BestPrefix`; at least one is finite.
    positions : ndarray of int, shape (k,)
        Where each addition is made, in the order of the additions.
    values : ndarray, shape (k, n_lanes)
        What it adds to each lane.

    Returns
    -------
    ndarray, shape (k + 1, n_lanes)
    """
    gaps = np.flatnonzero(np.isfinite(bonus))
    n_lanes = values.shape[1]
    history = np.empty((positions.size + 1, n_lanes))
    numbers = gaps.size * n_lanes
    if numbers <= _DENSE_NUMBERS and numbers * positions.size <= _DENSE_TOTAL:
        history[0] = bonus[gaps].max()
        before = positions[:, None] < gaps
        sums = np.cumsum(values[:, :, None] * before[:, None, :], axis=0)
        sums += bonus[gaps]
        sums.max(axis=2, out=history[1:])
        return history
    prefix = BestPrefix(bonus, n_lanes)
    history[0] = prefix.best
    for number, position in enumerate(positions.tolist(), start=1):
        prefix.add(position, values[number - 1])
        history[number] = prefix.best
    return history


class BestPrefix:
    """max over gaps g of bonus[g] + sum of the values at positions < g, under additions, for many lanes at once.

    A binary tree in an array: node k has the children 2k and 2k + 1, position p is node `size + p`. Each node keeps
    the sum of its positions and the best "bonus + prefix sum" over the gaps behind its positions, so an addition costs
    log2(positions) steps and the root knows the answer.

    Parameters
    ----------
    bonus : ndarray, shape (positions + 1,)
        A constant per gap: gap 0 lies before every position, gap g behind position g - 1. -inf forbids the gap.
    n_lanes : int
        Number of sequences.
    """

    def __init__(self, bonus: np.ndarray, n_lanes: int) -> None:
        positions = bonus.size - 1
        self._size = 1 << max(0, positions - 1).bit_length()
        self._sum = np.zeros((2 * self._size, n_lanes))
        self._best = np.full((2 * self._size, n_lanes), -math.inf)
        self._first = float(bonus[0])
        self._bonus = bonus[1:]
        self._best[self._size : self._size + positions] = self._bonus[:, None]
        for node in range(self._size - 1, 0, -1):
            self._best[node] = np.maximum(self._best[2 * node], self._best[2 * node + 1])

    @property
    def best(self) -> np.ndarray:
        """Best value per lane, shape (n_lanes,)."""
        return np.maximum(self._best[1], self._first)

    def add(self, position: int, value: np.ndarray) -> None:
        """Add a value per lane at one position."""
        sums, best = self._sum, self._best
        node = self._size + position
        sums[node] += value
        np.add(sums[node], self._bonus[position], out=best[node])
        node >>= 1
        while node:
            sums[node] += value
            left = 2 * node
            behind = sums[left] + best[left + 1]
            np.maximum(best[left], behind, out=best[node])
            node >>= 1
