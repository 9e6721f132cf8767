r"""Thresholds from few rows: the median of a tempered posterior instead of the best training score.

With a hundred rows many thresholds are equally good on them and very unequal elsewhere. So every threshold gets a weak
prior in its metric's own terms (a barrier parts hot from cold near 0, whatever the network), and the rows speak through

.. math:: p(\theta) \propto \prod_k \mathcal N(z_k; c_k, s_k) \; \exp\Big(\lambda \sum_i w_i(a_i(\theta))\Big),

where :math:`z_k` is threshold k on its prior's scale (logarithm or identity), :math:`a_i(\theta)` the answer row i gets
and :math:`w_i(a)` what that answer is worth to it (its weight if right, else 0). The sharpness :math:`\lambda` is small
since neighbouring rows of a zoo are alike: they are worth fewer independent ones (a Gibbs posterior; Bissiri, Holmes,
Walker, "A general framework for updating belief distributions", JRSS B 2016).

The posterior is piecewise a Gaussian times a constant, so it is summed exactly over the gaps between training values:
given a question's threshold its two branches are independent, and the sums are taken from the last question up.
Thresholds are then read off from the first question down, each the median given those above it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from mdtree.errors import InputError
from mdtree.nodes import Node
from mdtree.priors import GaussianPrior
from mdtree.shapes import Shape, ShapeSplit, shape_depth

MAX_DEPTH = 4
"""Questions on the longest way to an answer; each one more costs a factor of `MAX_CUTS`."""

MAX_CUTS = 96
"""Cut points of a threshold that are told apart: of more training values, evenly spaced ones by rank."""

SHARPNESS = 0.5
"""Chosen on the clean half of the public table by transfer between its slices (benchmarks/choose_shapes.md)."""

LEVEL = 0.9
IDENTIFIED = 0.7
"""A threshold is identified by the rows if its 90 % interval is at most this share of its prior's."""


@dataclass(frozen=True)
class PosteriorFit:
    """What the rows and the priors say of the thresholds.

    Attributes
    ----------
    tree : Split or Leaf
        The shape at the medians, without counts.
    thresholds : mapping of str to float
        Threshold name -> median given the thresholds above it.
    intervals : mapping of str to (float, float)
        90 % interval, given the thresholds above.
    identified : mapping of str to bool
        Whether the rows narrowed the prior (see `IDENTIFIED`); where not, the threshold is the prior's.
    """

    tree: Node
    thresholds: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    identified: Mapping[str, bool]


@dataclass(frozen=True)
class _Threshold:
    """One threshold: gap g lets the rows of rank < g go left."""

    rank: np.ndarray  # (n,) number of cut points below the row's value
    edges: np.ndarray  # (gaps + 1,) ends of the gaps on the prior's scale in standard deviations, -inf ... inf
    log_mass: np.ndarray  # (gaps,) logarithm of the prior's mass in each gap
    prior: GaussianPrior

    def value(self, z: float) -> float:
        """A standardised threshold in the metric's unit."""
        prior = self.prior
        return prior.centre * math.exp(z * prior.spread) if prior.scale == "log" else prior.centre + z * prior.spread

    def quantile(self, probability: np.ndarray, share: float) -> float:
        """Standardised threshold below which `share` of the posterior lies; within a gap it follows the prior."""
        below = np.cumsum(probability)
        gap = int(np.searchsorted(below, share * below[-1]))
        start = below[gap] - probability[gap]
        within = (share * below[-1] - start) / probability[gap] if probability[gap] > 0 else 0.5
        low, high = self.edges[gap], self.edges[gap + 1]
        if low > 0:  # the upper tail is mirrored: near 1 the distribution function has no digits left
            return -float(ndtri(ndtr(-low) + within * (ndtr(-high) - ndtr(-low))))
        return float(ndtri(ndtr(low) + within * (ndtr(high) - ndtr(low))))


def posterior_thresholds(
    shape: Shape,
    columns: Mapping[str, np.ndarray],
    worth: Mapping[str, np.ndarray],
    *,
    sharpness: float = SHARPNESS,
    prior: Mapping[str, GaussianPrior] | None = None,
    max_cuts: int = MAX_CUTS,
) -> PosteriorFit:
    """Fit the thresholds of a shape as medians of the tempered posterior.

    Parameters
    ----------
    shape : Shape
        At most `MAX_DEPTH` questions on a way. Its bounds are not used: a prior takes their place.
    columns : mapping of str to array, shape (n,)
        Metric -> finite values.
    worth : mapping of str to array, shape (n,)
        Answer -> what it is worth to each row (its weight where it is right, else 0; or a gain).
    sharpness : float
        Weight of a unit of worth in the exponent, > 0.
    prior : mapping of str to GaussianPrior, optional
        Threshold name -> prior, in place of the shape's own.
    max_cuts : int
        See `MAX_CUTS`; fewer is faster and coarser.

    Returns
    -------
    PosteriorFit
        Deterministic, and independent of the order of the rows.

    Raises
    ------
    InputError
        Too deep, a metric missing or not finite, an answer without worth, a threshold without a prior, sharpness <= 0.
    """
    _refuse(shape, worth, sharpness, prior or {})
    n = len(next(iter(worth.values())))
    search = _Search(
        {s.name: _threshold(s, columns, n, (prior or {}).get(s.name, s.prior), max_cuts) for s in shape.splits()},
        {label: sharpness * np.asarray(values, dtype=float) for label, values in worth.items()},
    )
    found: dict[str, tuple[float, float, float]] = {}
    search.read_off(shape.root, np.arange(n), found)
    order = [split.name for split in shape.splits()]
    values = {name: search.thresholds[name] for name in order}
    cuts = {name: values[name].value(found[name][0]) for name in order}
    prior_width = 2 * float(ndtri((1 + LEVEL) / 2))
    return PosteriorFit(
        tree=shape.tree_at(cuts),
        thresholds=cuts,
        intervals={name: (values[name].value(found[name][1]), values[name].value(found[name][2])) for name in order},
        identified={name: found[name][2] - found[name][1] <= IDENTIFIED * prior_width for name in order},
    )


def _refuse(
    shape: Shape, worth: Mapping[str, np.ndarray], sharpness: float, prior: Mapping[str, GaussianPrior]
) -> None:
    if not 0 < sharpness < math.inf:
        raise InputError(f"sharpness {sharpness}", "a finite number above 0")
    if shape.depth() > MAX_DEPTH:
        raise InputError(f"shape {shape.name} asks {shape.depth()} questions in a row", f"at most {MAX_DEPTH}")
    unknown = set(prior) - {split.name for split in shape.splits()}
    if unknown:
        raise InputError(f"prior for {', '.join(sorted(unknown))}", f"a threshold of shape {shape.name}")
    missing = sorted(set(shape.labels()) - set(worth))
    if missing:
        raise InputError(f"no worth for the answer {', '.join(missing)}", "one number per row for every answer")


def _threshold(
    split: ShapeSplit, columns: Mapping[str, np.ndarray], n: int, prior: GaussianPrior | None, max_cuts: int
) -> _Threshold:
    if prior is None or prior.strength != 1:
        raise InputError(f"threshold {split.name} has no prior of strength 1", "a GaussianPrior", "give one in `prior`")
    if split.feature not in columns:
        raise InputError(f"no column {split.feature}", "every metric of the shape")
    column = np.asarray(columns[split.feature], dtype=float)
    if column.shape != (n,) or not np.all(np.isfinite(column)):
        raise InputError(f"column {split.feature} of shape {column.shape}", f"{n} finite values, one per row")
    cuts = np.unique(column)
    if cuts.size > max_cuts:
        cuts = cuts[np.unique(np.linspace(0, cuts.size - 1, max_cuts).round().astype(int))]
    z = cuts
    if prior.scale == "log":
        z = np.full(cuts.shape, -math.inf)
        np.log(cuts, out=z, where=cuts > 0)
        z = z - math.log(prior.centre)
    else:
        z = cuts - prior.centre
    edges = np.concatenate(([-math.inf], z / prior.spread, [math.inf]))
    return _Threshold(np.searchsorted(cuts, column), edges, _log_mass(edges), prior)


def _log_mass(edges: np.ndarray) -> np.ndarray:
    """Logarithm of the standard normal mass between neighbouring edges, exact in both tails."""
    low, high = edges[:-1], edges[1:]
    upper = low > 0
    mass = np.where(upper, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))
    # a gap the prior all but excludes stays possible where the rows insist
    return np.log(np.maximum(mass, 1e-300))


@dataclass(frozen=True)
class _Search:
    thresholds: Mapping[str, _Threshold]
    worth: Mapping[str, np.ndarray]  # sharpness times what each answer is worth to each row

    def read_off(self, node: ShapeSplit | str, rows: np.ndarray, found: dict[str, tuple[float, float, float]]) -> None:
        """Median and interval of every threshold below, given these rows, into `found` (standardised)."""
        if isinstance(node, str):
            return
        threshold = self.thresholds[node.name]
        log = self.log_weights(node, rows)
        probability = np.exp(log - logsumexp(log))
        tail = (1 - LEVEL) / 2
        median, low, high = (threshold.quantile(probability, share) for share in (0.5, tail, 1 - tail))
        found[node.name] = (median, low, high)
        gap = int(np.searchsorted(threshold.edges[1:-1], median, side="right"))
        goes_left = threshold.rank[rows] < gap
        self.read_off(node.left, rows[goes_left], found)
        self.read_off(node.right, rows[~goes_left], found)

    def log_weights(self, node: ShapeSplit, rows: np.ndarray) -> np.ndarray:
        """Log-posterior of each gap of a question, all thresholds below it summed out. Shape (gaps,)."""
        threshold = self.thresholds[node.name]
        total = threshold.log_mass.copy()
        for child, is_left in ((node.left, True), (node.right, False)):
            total += self._branch(threshold, child, rows, is_left)
        return total

    def _branch(self, above: _Threshold, child: ShapeSplit | str, rows: np.ndarray, is_left: bool) -> np.ndarray:
        """Log-weight of one branch for every gap of the question above it."""
        rank, gaps = above.rank[rows], above.log_mass.size
        if isinstance(child, str):
            return _reaching(np.bincount(rank, self.worth[child][rows], minlength=gaps), is_left)
        if shape_depth(child) == 1:
            return self._last_question(rank, gaps, child, rows, is_left)
        weights = np.empty(gaps)
        held = -1
        for gap in range(gaps):
            inside = rows[(rank < gap) == is_left]
            # cut points of the whole table: among these rows many gaps hold the same ones
            weights[gap] = weights[gap - 1] if inside.size == held else logsumexp(self.log_weights(child, inside))
            held = inside.size
        return weights

    def _last_question(
        self, rank: np.ndarray, gaps: int, child: ShapeSplit, rows: np.ndarray, is_left: bool
    ) -> np.ndarray:
        """`_branch` for a branch of one question: both thresholds' gaps at once, by cumulative sums of a histogram."""
        assert isinstance(child.left, str)
        assert isinstance(child.right, str)
        below = self.thresholds[child.name]
        inner = below.log_mass.size
        place = rank * inner + below.rank[rows]

        def summed(label: str) -> np.ndarray:
            table = np.bincount(place, self.worth[label][rows], minlength=gaps * inner).reshape(gaps, inner)
            return _reaching(table, is_left)

        left, right = summed(child.left), summed(child.right)
        answers = _reaching(left.T, True).T + _reaching(right.T, False).T
        return np.asarray(logsumexp(below.log_mass + answers, axis=1))


def _reaching(by_rank: np.ndarray, is_left: bool) -> np.ndarray:
    """Per gap, the sum over the rows that go left (rank < gap) or right. Ranks and gaps run along the first axis."""
    before = np.cumsum(by_rank, axis=0)
    left = np.concatenate((np.zeros_like(before[:1]), before[:-1]))
    return left if is_left else before[-1:] - left


def right_answers(
    labels: Sequence[str] | np.ndarray, weight: np.ndarray, answers: Sequence[str]
) -> dict[str, np.ndarray]:
    """The worth of right answers: each row's weight for its own label, 0 for every other."""
    label_of = np.asarray(labels, dtype=object)
    return {answer: np.where(label_of == answer, weight, 0.0) for answer in answers}
