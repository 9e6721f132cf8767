"""The published fitting procedure against a rewrite that walks row by row, and against the exact search."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from mdtree.authors_fit import PublishedSearch, fit_as_published
from mdtree.benchmark_cases import CASES, draws
from mdtree.benchmark_methods import tree_answers
from mdtree.errors import InputError
from mdtree.modeldiagnosis import read_public_table
from mdtree.tree import SHAPES, Shape, ShapeSplit, fit_thresholds, walk

LOW, HIGH = "temperature_too_low", "temperature_too_high"


def temperature(x, t):
    """The paper's temperature tree over (train error, negated peak, log trace)."""
    if x[0] <= t[0]:
        return LOW
    if x[1] <= t[1]:
        return HIGH if x[2] <= t[2] else LOW
    return HIGH


def model_size(x, t):
    """The paper's model-size tree over (train error, negated peak)."""
    wide = x[1] <= (t[1] if x[0] <= t[0] else t[2])
    return "model_too_small" if wide else "temperature"


def data(x, t):
    """The paper's data tree over (train error, negated peak, log trace)."""
    few, other = "too_little_data", "temperature"
    if x[0] <= t[0]:
        return few if x[2] <= (t[4] if x[1] <= t[1] else t[2]) else other
    return few if x[1] > t[3] and x[2] <= t[5] else other


PUBLISHED = {
    "temperature": (temperature, [0.5, -10, 7], [(0, 1), (-30, 0), (4, 9)]),
    "model_size": (model_size, [0.5, -10, -10], [(0, 1), (-30, 0), (-30, 0)]),
    "data": (data, [0.5, -10, 7, -10, 7, 7], [(0, 1), (-30, 0), (4, 9), (-30, 0), (4, 9), (4, 9)]),
}


def fitted_row_by_row(name, X, labels):
    answer, start, bounds = PUBLISHED[name]
    t = list(start)
    for number, bound in enumerate(bounds):

        def wrong(value, number=number):
            return -np.mean([answer(x, [*t[:number], value, *t[number + 1 :]]) == y for x, y in zip(X, labels)])  # noqa: B905

        t[number] = minimize_scalar(wrong, bounds=bound, method="bounded").x
    return t


def rows(seed, n=60):
    rng = np.random.default_rng(seed)
    columns = {
        "train_error_percent": rng.exponential(0.6, n),
        "connectivity_peak_percent": rng.uniform(0, 35, n),
        "hessian_trace": np.exp(rng.uniform(3, 10, n)),
        "cka": rng.uniform(0, 1, n),
    }
    X = np.column_stack([
        columns["train_error_percent"], -columns["connectivity_peak_percent"], np.log(columns["hessian_trace"])
    ])  # fmt: skip
    return columns, X, rng


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_procedure_is_the_published_one(name, seed):
    columns, X, rng = rows(seed)
    answer, start, _ = PUBLISHED[name]
    shift = rng.normal(0, 0.3, len(start)) * np.abs(start)
    labels = np.array([answer(x, np.array(start) + shift) for x in X])
    flipped = rng.random(len(labels)) < 0.15
    labels[flipped] = rng.choice(SHAPES[name].labels(), flipped.sum())
    fit = fit_as_published(SHAPES[name], columns, labels)
    expected = fitted_row_by_row(name, X, labels)
    for split in SHAPES[name].splits():
        given = expected[int(split.name[1:])]
        natural = -given if split.closed == "right" else math.exp(given) if split.feature == "hessian_trace" else given
        assert fit.thresholds[split.name] == pytest.approx(natural, rel=1e-9)
    assert fit.score == sum(answer(x, expected) == y for x, y in zip(X, labels, strict=True))
    walked = [walk(fit.tree, {k: v[i] for k, v in columns.items()}).leaves[0][0].label for i in range(len(labels))]
    assert walked == [answer(x, expected) for x in X]


def test_the_starts_and_bounds_are_on_the_published_scale():
    columns, _, _ = rows(0)
    search = PublishedSearch(SHAPES["data"], columns, ["temperature"] * 60)
    assert search.starts == pytest.approx([0.5, -10, 7, -10, 7, 7])
    assert np.ravel(search.bounds) == pytest.approx([0, 1, -30, 0, 4, 9, -30, 0, 4, 9, 4, 9])


def test_a_later_threshold_stands_at_its_start_while_an_earlier_one_is_fitted():
    """At its start t1 answers three rows wrongly, so t0 sends all rows away from it, and t1 is fitted to nothing."""
    inner = ShapeSplit("t1", "x1", "a", "b", start=5.0, low=0.0, high=10.0)
    shape = Shape("two", ShapeSplit("t0", "x0", "b", inner, start=0.5, low=0.0, high=1.0))
    columns = {"x0": np.full(4, 0.8), "x1": np.array([0.5, 2.0, 2.0, 2.0])}
    labels = ["a", "b", "b", "b"]
    published = fit_as_published(shape, columns, labels)
    assert published.score == 3
    assert published.thresholds["t0"] > 0.8
    assert fit_thresholds(shape, columns, labels).score == 4


def test_equality_takes_the_closed_side():
    """A peak that equals the threshold counts as poorly connected: the fitted tree says so too."""
    split = ShapeSplit("t0", "peak", "well", "poorly", start=10.0, low=0.0, high=30.0, closed="right")
    fit = fit_as_published(Shape("one", split), {"peak": np.array([1.0, 29.0])}, ["well", "poorly"])
    t = fit.thresholds["t0"]
    assert walk(fit.tree, {"peak": t}).leaves[0][0].label == "poorly"
    assert walk(fit.tree, {"peak": np.nextafter(t, 0)}).leaves[0][0].label == "well"


def test_a_trace_below_zero_lies_under_every_threshold():
    shape = Shape("one", ShapeSplit("t0", "hessian_trace", "a", "b", start=100.0, low=1.0, high=1e4))
    fit = fit_as_published(shape, {"hessian_trace": np.array([-3.0, 0.0, 1e5])}, ["a", "a", "b"])
    assert fit.score == 3


X = {"x": np.array([1.0, 2.0])}


@pytest.mark.parametrize(
    ("split", "columns", "labels", "complaint"),
    [
        (ShapeSplit("t0", "x", "a", "b", 1.0), X, "ab", "finite bounds"),
        (ShapeSplit("t0", "hessian_trace", "a", "b", 1.0, 0.0, 2.0), {"hessian_trace": X["x"]}, "ab", "finite bounds"),
        (ShapeSplit("cut", "x", "a", "b", 1.0, 0.0, 2.0), X, "ab", "threshold names cut; expected the names t0"),
        (ShapeSplit("t0", "y", "a", "b", 1.0, 0.0, 2.0), X, "ab", "no column y"),
        (ShapeSplit("t0", "x", "a", "b", 1.0, 0.0, 2.0), X, "abc", "one finite value per label"),
        (ShapeSplit("t0", "x", "a", "b", 1.0, 0.0, 2.0), {"x": np.array([1.0, math.nan])}, "ab", "one finite value"),
    ],
)
def test_what_cannot_be_fitted_is_refused(split, columns, labels, complaint):
    with pytest.raises(InputError, match=complaint):
        fit_as_published(Shape("one", split), columns, list(labels))


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.number))
def test_the_exact_search_is_never_behind_on_its_training_rows(mdtree_data, case):
    clean = read_public_table(mdtree_data / "modeldiagnosis" / "dataframe_normal_public.csv")
    shape = SHAPES[case.question]
    for draw in draws(case, clean, clean):
        columns = {name: draw.training[name].to_numpy() for name in shape.features()}
        labels = draw.training[f"label_{case.question}"].to_numpy(dtype=str)
        published, exact = (fit(shape, columns, labels) for fit in (fit_as_published, fit_thresholds))
        assert exact.score >= published.score
        assert published.score == np.sum(tree_answers(published.tree, draw.training) == labels)
        assert exact.score == np.sum(tree_answers(exact.tree, draw.training) == labels)
