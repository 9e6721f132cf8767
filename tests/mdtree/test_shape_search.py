"""Searching shapes: the right questions are found, small trees win ties, and travelling is what counts."""

import numpy as np
import pytest

from mdtree.errors import InputError
from mdtree.nodes import leaf_weights, leaves
from mdtree.priors import GaussianPrior
from mdtree.shape_search import (
    Candidate,
    SearchOptions,
    SearchRows,
    Transfer,
    balanced_worth,
    prior_of,
    search_shape,
    simplest,
    transfer_scores,
    words,
)
from mdtree.shapes import Shape, ShapeSplit
from mdtree.threshold_posterior import posterior_thresholds

FAST = SearchOptions(max_leaves=3, beam=2, max_cuts=16, workers=1)


def grid_rows(seed=0, n=240):
    """Two scales. `true` decides on both; `local` decides on the first scale alone, and better there."""
    generator = np.random.default_rng(seed)
    scale = np.repeat([0, 1], n // 2)
    label = generator.choice(["hot", "cold"], n)
    sign = np.where(label == "hot", 1.0, -1.0)
    true = sign * 1.0 + generator.normal(0, 0.6, n)
    local = np.where(scale == 0, sign, generator.choice([-1.0, 1.0], n)) + generator.normal(0, 0.05, n)
    columns = {"local": local, "true": true}
    transfers = (Transfer("0 to 1", scale == 0, scale == 1), Transfer("1 to 0", scale == 1, scale == 0))
    worth = {name: (label == name).astype(float) for name in ("cold", "hot")}
    return SearchRows(columns, label, worth, transfers)


def test_a_metric_that_decides_on_one_scale_alone_is_not_asked():
    found = search_shape("temperature", grid_rows(), FAST)
    assert words(found[0].shape.root) == "(true: cold | hot)"
    assert found[0].scores.min() > 0.85


def test_the_search_does_not_depend_on_the_number_of_workers():
    rows = grid_rows(1, n=120)
    one, two = (search_shape("t", rows, SearchOptions(3, 3, 2, 0.5, 16, workers)) for workers in (1, 2))
    assert [words(c.shape.root) for c in one] == [words(c.shape.root) for c in two]
    assert all(np.array_equal(a.scores, b.scores) for a, b in zip(one, two, strict=True))


def test_leaves_and_depth_keep_to_the_options():
    for candidate in search_shape("t", grid_rows(2, n=80), SearchOptions(2, 4, 2, 0.5, 8, 1)):
        assert candidate.shape.depth() <= 2
        assert len(leaves(candidate.shape.tree())) == candidate.n_leaves <= 4


def candidate(n_leaves, score):
    node = "a"
    for number in range(n_leaves - 1):
        node = ShapeSplit(f"t{number}", "m", node, "b", start=0.0)
    return Candidate(Shape("c", node), np.full(5, score))


def test_a_larger_shape_must_bring_half_a_point():
    assert simplest([candidate(2, 0.90), candidate(3, 0.904), candidate(4, 0.9049)]).n_leaves == 2
    assert simplest([candidate(2, 0.90), candidate(3, 0.906), candidate(4, 0.9105)]).n_leaves == 3
    assert simplest([candidate(2, 0.90), candidate(3, 0.95), candidate(4, 0.94)]).n_leaves == 3


def test_a_transfer_scores_gains_of_rows_it_was_not_fitted_on():
    rows = grid_rows(3)
    gains = {"hot": np.linspace(0, 2, 240), "cold": np.linspace(1, 0, 240)}
    prior = GaussianPrior(0.0, 1.0, "linear")
    shape = Shape("s", ShapeSplit("t0", "true", "cold", "hot", start=0.0, prior=prior))
    scores = transfer_scores(shape, SearchRows(rows.columns, rows.labels, gains, rows.transfers), FAST)
    transfer = rows.transfers[0]
    fit = posterior_thresholds(
        shape,
        {"true": rows.columns["true"][transfer.fitted]},
        balanced_worth(rows.labels[transfer.fitted], ("cold", "hot")),
        sharpness=FAST.sharpness,
        max_cuts=FAST.max_cuts,
    )
    goes_left = leaf_weights(fit.tree, {"true": rows.columns["true"][120:]}, 120)[:, 0] == 1
    won = np.where(goes_left, gains["cold"][120:], gains["hot"][120:]).sum()
    assert scores[0] == pytest.approx(won / np.maximum(gains["cold"], gains["hot"])[120:].sum())


def test_balanced_labels_weigh_the_same_and_one_on_average():
    worth = balanced_worth(np.array(["a", "a", "a", "b"]), ("a", "b", "c"))
    assert worth["a"].sum() == pytest.approx(2)
    assert worth["b"].sum() == pytest.approx(2)
    assert worth["c"].sum() == 0


def test_a_prior_comes_from_the_values_unless_the_metric_has_one():
    generator = np.random.default_rng(0)
    assert prior_of("cka", np.array([0.1])) == GaussianPrior(0.5, 0.25, "linear")
    positive = prior_of("hessian_trace", generator.lognormal(3.0, 1.0, 4000))
    assert positive.scale == "log"
    assert positive.centre == pytest.approx(np.exp(3.0), rel=0.1)
    assert positive.spread == pytest.approx(1.645, rel=0.1)
    signed = prior_of("log_weight_growth", np.append(generator.normal(1.0, 2.0, 4000), np.nan))
    assert signed.scale == "linear"
    assert signed.spread == pytest.approx(2 * 1.645, rel=0.1)


def test_one_label_is_no_question():
    rows = grid_rows()
    with pytest.raises(InputError, match="two labels"):
        search_shape("t", SearchRows(rows.columns, np.full(240, "hot"), rows.worth, rows.transfers), FAST)
