"""What is drawn, advised and changed, and what it brings: by hand on networks whose test errors follow a formula."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scripted_zoo import SPECIFICATION, error_percent, scripted_diagnoser, scripted_spec, scripted_zoo

from mdtree.configuration_change import Reach
from mdtree.errors import InputError
from mdtree.intervention import InterventionOptions, draw_networks, plan_interventions
from mdtree.intervention_json import clipped, verified_to_dict
from mdtree.intervention_scores import POLICIES, score_interventions
from mdtree.intervention_text import verified_text
from mdtree.rival_advice import constant_direction, without_drawn
from mdtree.zoo import GAIN_COLUMN

LOW, HIGH, SMALL, LITTLE = "temperature_too_low", "temperature_too_high", "model_too_small", "too_little_data"


def by_rate(cell):
    """Right about the temperature; says `healthy` of the best rate."""
    return {0.01: LOW, 0.1: "healthy", 1.0: HIGH}[cell.learning_rate]


@pytest.fixture
def spec(tmp_path):
    return scripted_spec(tmp_path)


def planned(spec, answers=by_rate, **options):
    return plan_interventions(scripted_diagnoser(), spec, scripted_zoo(spec, answers), InterventionOptions(**options))


def errors_of(plan, noise=lambda cell, seeds: 0.0):
    return {cell.name: error_percent(cell) + noise(cell, plan.seeds) * np.ones(len(plan.seeds)) for cell in plan.cells}


# -------------------------------------------------------------------------------------------------------- what is drawn


def test_held_out_cells_are_drawn_one_network_each(spec):
    table = scripted_zoo(spec)
    rows, words = draw_networks(table, 5, seed=0)
    assert words == "9 held-out cells"
    assert len(rows) == 5
    assert rows["cell"].is_unique
    assert set(rows["cell"]) <= spec.held_out_cells()
    assert rows.index.is_monotonic_increasing


def test_a_draw_is_repeated_by_its_seed_and_a_larger_one_holds_the_smaller(spec):
    table = scripted_zoo(spec)
    drawn = {n: set(draw_networks(table, n, seed=7)[0].index) for n in (3, 6, 40)}
    assert drawn[3] < drawn[6] < drawn[40]
    assert len(drawn[40]) == 9
    assert drawn[3] == set(draw_networks(table, 3, seed=7)[0].index)
    assert len({frozenset(draw_networks(table, 3, seed=s)[0].index) for s in range(5)}) > 1


def test_every_network_of_a_cell_may_be_the_one(spec):
    table = scripted_zoo(spec)
    seeds = Counter(seed for draw in range(100) for seed in draw_networks(table, 3, draw)[0]["seed"])
    assert set(seeds) == {0, 1, 2}
    assert min(seeds.values()) > 60


def test_diverged_networks_are_not_asked(spec):
    table = scripted_zoo(spec)
    table.loc[table["seed"] > 0, "diverged"] = 1
    assert set(draw_networks(table, 40, seed=0)[0]["seed"]) == {0}
    with pytest.raises(InputError, match="every network that could be drawn diverged"):
        draw_networks(table.assign(diverged=1), 40, seed=0)


def test_without_held_out_cells_all_are_drawn_from_and_it_says_so(spec):
    rows, words = draw_networks(scripted_zoo(spec).assign(split="fit"), 40, seed=0)
    assert (len(rows), words) == (18, "18 cells (none is held out)")


# ------------------------------------------------------------------------------------------ what is advised and changed


def test_every_direction_has_a_step_of_the_size_the_leaf_keeps(spec):
    plan = planned(spec, cells=40)
    for case in plan.cases:
        cell = case.cell
        steps = {direction: (change.parameter, change.wanted) for direction, change in case.changes.items()}
        assert steps == {
            "temperature_up": ("learning_rate", pytest.approx(cell.learning_rate * 10)),
            "temperature_down": ("learning_rate", pytest.approx(cell.learning_rate / 10)),
            "model_size": ("width", cell.block.width * 4),
            "data": ("train_size", cell.block.train_size * 4),
        }
        wider = case.changes["model_size"].cell
        assert dataclasses.replace(wider.block, width=cell.block.width, name=cell.block.name) == cell.block
        assert (wider.learning_rate, wider.batch_size) == (cell.learning_rate, cell.batch_size)


def test_a_changed_cell_that_the_grid_has_is_the_grids_own_and_each_is_trained_once(spec):
    plan = planned(spec, cells=40)
    grid = {cell.name: cell for cell in spec.cells()}
    changed = [change.cell for case in plan.cases for change in case.changes.values()]
    on_grid = [cell for cell in changed if cell.name in grid]
    assert on_grid
    assert all(cell == grid[cell.name] for cell in on_grid)
    assert len({cell.name for cell in plan.cells}) == len(plan.cells) < len(plan.cases) + len(changed)


def test_more_data_than_there_are_is_clipped_and_counted(spec, tmp_path):
    plan = planned(spec, answers=lambda cell: LITTLE, cells=40)
    sizes = Counter(case.cell.block.train_size for case in plan.cases)
    wanted = {100: (400, 400), 400: (1600, 1000), 800: (3200, 1000)}  # digits has 1,000 images to train on
    for case in plan.cases:
        change = case.changes["data"]
        assert (change.wanted, change.new) == wanted[case.cell.block.train_size]
        assert change.clipped == (case.cell.block.train_size > 100)
        assert change.cell.block.train_size == change.new
    assert clipped(plan.cases, ["diagnosis"]) == {"diagnosis": {"clipped": sizes[400] + sizes[800], "impossible": 0}}

    full = scripted_spec(tmp_path, SPECIFICATION.replace("800", "1000"))
    plan = planned(full, answers=lambda cell: LITTLE if cell.block.train_size == 1000 else "healthy", cells=40)
    at_end = [case for case in plan.cases if case.cell.block.train_size == 1000]
    assert at_end
    assert all(case.changes["data"].cell is None for case in at_end)
    assert clipped(plan.cases, ["diagnosis"])["diagnosis"] == {"clipped": len(at_end), "impossible": len(at_end)}
    gained = score_interventions(plan, errors_of(plan)).policies["diagnosis"]
    assert (gained.gain_points, gained.changed) == (0, 0)


def test_a_width_that_cannot_be_built_is_the_widest_of_the_grid(spec, monkeypatch):
    monkeypatch.setattr(Reach, "builds", lambda self, block: block.width <= 16)
    plan = planned(spec, cells=40)
    steps = {case.cell.block.width: case.changes["model_size"] for case in plan.cases}
    assert (steps[4].wanted, steps[4].new, steps[4].clipped) == (16, 16, False)
    assert (steps[16].wanted, steps[16].new, steps[16].cell) == (64, 16, None)


def test_fresh_seeds_are_none_of_the_zoos(spec):
    plan = planned(spec, cells=2, seeds=3)
    assert plan.seeds == (100, 101, 102, 103, 104, 105)
    many = dataclasses.replace(plan, spec=dataclasses.replace(spec, seeds=150))
    assert many.seeds == (150, 151, 152, 153, 154, 155)


def test_the_diagnosis_sees_its_evidence_and_the_recipe(spec):
    case = planned(spec, cells=1).cases[0]
    record = case.diagnosis.record
    assert set(record.metrics) == {"train_loss", "train_error_percent", "test_error_percent", "test_loss"}
    assert record.recipe["width"] == case.cell.block.width
    assert case.diagnosis.diagnoser["evidence"] == "sibling_test"


# ------------------------------------------------------------------------------------------------------- who gains what


def test_what_every_policy_gains_by_hand(spec):
    """Up gains 20 at 0.01 and loses 20 elsewhere, down the mirror image, width always 6, data 4, 2.64 or 0.64."""
    plan = planned(spec, cells=40)
    verified = score_interventions(plan, errors_of(plan))
    rates = np.array([case.cell.learning_rate for case in plan.cases])
    sizes = np.array([case.cell.block.train_size for case in plan.cases])
    data = np.select([sizes == 100, sizes == 400], [4.0, 2 * math.log2(2.5)], 2 * math.log2(1.25))
    up, down = np.where(rates < 0.05, 20.0, -20.0), np.where(rates > 0.5, 20.0, -20.0)
    expected = {
        "diagnosis": np.where(rates == 0.1, 0.0, 20.0),
        "no_change": np.zeros(len(rates)),
        "random": (up + down + 6 + data) / 4,
        "best": np.where(rates == 0.1, 6.0, 20.0),
    }
    for policy, gains in expected.items():
        figures = verified.policies[policy]
        assert figures.gain_points == pytest.approx(gains.mean()), policy
        assert figures.share_of_best == pytest.approx(gains.sum() / expected["best"].sum())
        assert figures.lead_points == pytest.approx((expected["diagnosis"] - gains).mean())
        assert figures.n == len(rates)
        if policy != "no_change":
            assert figures.standard_error == pytest.approx(gains.std(ddof=1) / math.sqrt(len(gains)))
        per_cell = [case.policies[policy].points for case in verified.cases]
        assert per_cell == pytest.approx(gains)
    assert verified.directions["data"].points == pytest.approx(data.mean())
    assert verified.policies["diagnosis"].changed == pytest.approx((rates != 0.1).mean())
    low, high = verified.policies["diagnosis"].low, verified.policies["diagnosis"].high
    assert low < verified.policies["diagnosis"].share_of_best <= high <= 1


def test_losses_count_and_harm_is_counted(spec):
    plan = planned(spec, answers=lambda cell: LOW, cells=40)
    figures = score_interventions(plan, errors_of(plan)).policies["diagnosis"]
    cold = np.mean([case.cell.learning_rate == 0.01 for case in plan.cases])
    assert figures.gain_points == pytest.approx(20 * cold - 20 * (1 - cold))
    assert figures.harmed == pytest.approx(1 - cold)


def test_a_random_change_harms_as_often_as_its_directions_do(spec):
    plan = planned(spec, cells=40)
    figures = score_interventions(plan, errors_of(plan)).policies["random"]
    best_rate = np.mean([case.cell.learning_rate == 0.1 for case in plan.cases])
    # of four changes one way of the temperature harms, at the best rate both
    assert figures.harmed == pytest.approx(0.25 + 0.25 * best_rate)


def test_the_best_change_is_scored_on_other_seeds_than_it_is_chosen_on(spec):
    """Noise makes width look best on the first half at the best rate, data on the second."""
    plan = planned(spec, cells=40, seeds=2)
    case = next(case for case in plan.cases if case.cell.learning_rate == 0.1 and case.cell.block.train_size == 100)
    flattered = {case.changes["model_size"].cell.name: [-3, -3, 3, 3], case.changes["data"].cell.name: [5, 5, -5, -5]}
    errors = errors_of(plan, lambda cell, seeds: np.array(flattered.get(cell.name, np.zeros(4)), dtype=float))
    verified = score_interventions(plan, errors)
    found = next(result for result in verified.cases if result.case is case)
    # chosen on the first half: width (9 against -1), scored 3; on the second: data (9 against 3), scored -1
    assert found.policies["best"].points == pytest.approx((3 - 1) / 2)
    assert found.directions["model_size"].points == pytest.approx(6)


def test_no_change_is_the_best_change_where_all_others_lose(spec):
    plan = planned(spec, cells=40)
    errors = {name: values + (0 if name in {case.cell.name for case in plan.cases} else 90)
              for name, values in errors_of(plan).items()}  # fmt: skip
    flat = {name: np.full_like(values, 50.0) if values[0] < 90 else values for name, values in errors.items()}
    best = score_interventions(plan, flat).policies["best"]
    assert (best.gain_points, best.harmed, best.changed) == (0, 0, 0)
    assert math.isnan(best.share_of_best)
    written = verified_to_dict(score_interventions(plan, flat))
    assert written["policies"]["best"]["share_of_best"] is None


def test_the_standard_error_of_no_change_is_the_noise_of_retraining(spec):
    plan = planned(spec, cells=40, seeds=2)
    drift = np.array([-1.0, 1.0, -1.0, 1.0])  # the same in all configurations: it cancels in every change
    verified = score_interventions(plan, errors_of(plan, lambda cell, seeds: drift))
    of_mean = drift.std(ddof=1) / 2
    count = len(plan.cases)
    assert verified.policies["no_change"].gain_points == 0
    assert verified.policies["no_change"].standard_error == pytest.approx(math.sqrt(2) * of_mean / math.sqrt(count))
    assert verified.cases[0].policies["no_change"].standard_error == pytest.approx(math.sqrt(2) * of_mean)
    assert verified.cases[0].unchanged_error_percent.standard_error == pytest.approx(of_mean)
    assert verified.cases[0].directions["model_size"].standard_error == pytest.approx(0)


def test_constant_advice_is_what_gains_most_on_the_training_rows(spec):
    table = scripted_zoo(spec).assign(split="fit")
    # over all rates a step up or down wins and loses 20 points equally often
    assert constant_direction([table]) == "model_size"
    cold = table[table["learning_rate"] < 0.5]
    assert constant_direction([cold]) == "temperature_up"
    one_rate = table[table["learning_rate"] == 0.1]
    assert constant_direction([one_rate]) == "model_size"
    wide = one_rate[one_rate["width"] == 16]
    assert constant_direction([wide]) == "data"
    assert constant_direction([wide, cold, cold]) == "temperature_up"
    held_out = one_rate.assign(split=np.where(one_rate["width"] == 4, "held_out", "fit"))
    assert constant_direction([held_out]) == "data"  # the narrow ones, which gain more by width, are not looked at
    worse = wide.assign(**{GAIN_COLUMN: wide[GAIN_COLUMN] + wide["train_size"]})
    assert constant_direction([worse]) is None


def test_baselines_learn_from_rows_that_are_not_drawn(spec):
    """Without held-out rows the drawn cells leave the table; another family's cells of the same name stay."""
    table = scripted_zoo(spec)
    drawn, _ = draw_networks(table, 4, seed=0)
    assert not set(without_drawn(table, drawn)["cell"]) & set(drawn["cell"])
    assert len(without_drawn(table, drawn)) == len(table) - 4 * 3
    assert len(without_drawn(table.assign(family="another"), drawn)) == len(table)


def test_the_trees_advise_what_they_learned_and_by_other_tables_if_asked(spec):
    table = scripted_zoo(spec, by_rate)
    plan = plan_interventions(scripted_diagnoser(), spec, table, InterventionOptions(cells=40))
    assert plan.baselines_from == ("scripted",)
    cold = [i for i, case in enumerate(plan.cases) if case.cell.learning_rate == 0.01]
    assert {plan.chosen["hyperparameters"][i] for i in cold} == {"temperature_up"}
    other = table.assign(family="other", label_verdict=np.where(table["width"] > 4, SMALL, LITTLE))
    plan = plan_interventions(scripted_diagnoser(), spec, table, InterventionOptions(cells=40), [other])
    assert plan.baselines_from == ("other",)
    widths = [case.cell.block.width for case in plan.cases]
    assert plan.chosen["hyperparameters"] == tuple("model_size" if width > 4 else "data" for width in widths)


def test_undetermined_changes_nothing(spec):
    diagnoser = scripted_diagnoser()
    question = diagnoser.trees["verdict"]["sibling_test"]
    unsure = tuple(
        dataclasses.replace(leaf, probability=dict.fromkeys(leaf.probability, 0.2)) for leaf in question.leaves
    )
    diagnoser = dataclasses.replace(
        diagnoser, trees={"verdict": {"sibling_test": dataclasses.replace(question, leaves=unsure)}}
    )
    plan = plan_interventions(diagnoser, spec, scripted_zoo(spec, by_rate), InterventionOptions(cells=3))
    assert plan.chosen["diagnosis"] == (None, None, None)
    verified = score_interventions(plan, errors_of(plan))
    assert verified.policies["diagnosis"].gain_points == 0
    assert verified_to_dict(verified)["verdicts"] == {"undetermined": 3}


# --------------------------------------------------------------------------------------------------- what is said of it


def test_the_json_holds_every_network_and_policy(spec):
    plan = planned(spec, cells=4)
    written = json.loads(json.dumps(verified_to_dict(score_interventions(plan, errors_of(plan)))))
    assert set(written["policies"]) == set(POLICIES)
    assert written["family_known"] is False
    assert (written["n"], written["networks"]) == (4, len(plan.cells) * 6)
    for entry, case in zip(written["cells"], plan.cases, strict=True):
        assert (entry["cell"], entry["seed"]) == (case.cell.name, case.seed)
        assert entry["verdict"] == by_rate(case.cell)
        assert (entry["advice"] is None) == (entry["verdict"] == "healthy")
        if entry["advice"]:
            direction = entry["policies"]["diagnosis"]["direction"]
            assert entry["changes"][direction]["to"] == entry["advice"]["to"]
            assert entry["changes"][direction]["points"] == entry["policies"]["diagnosis"]["points"] == 20
        assert set(entry["policies"]) == set(POLICIES)


def test_the_text_is_the_table_with_its_caveats(spec):
    plan = planned(spec, cells=4)
    text = verified_text(score_interventions(plan, errors_of(plan)))
    assert text.startswith("scripted: 4 of 9 held-out cells; diagnoser scripted (not fitted on it)")
    lines = [line.split("  ")[1] for line in text.splitlines() if line.startswith("  ")]
    assert lines[1:] == [
        "the diagnosis",
        "no change",
        "a random change",
        "constant advice",
        "hyperparameter tree",
        "validation tree",
        "best change",
    ]
    assert "nan" not in text


def test_what_was_promised_stands_beside_what_was_gained(spec):
    """The leaf says that half of the test error goes."""
    plan = planned(spec, cells=40)
    advised = [case.cell for case in plan.cases if case.cell.learning_rate != 0.1]
    promised = sum(error_percent(cell) / 2 for cell in advised) / len(plan.cases)
    assert verified_to_dict(score_interventions(plan, errors_of(plan)))["expected_gain_points"] == pytest.approx(
        promised
    )


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"family": "other"}, "the table holds other; expected the family of the specification, scripted"),
        ({"cell": "w9-n9-e0-r9"}, "cell w9-n9-e0-r9 of the table is not in the specification"),
        ({"steps": 61}, "was trained for 61 steps; expected the 60 specified"),
        ({"seed": np.nan}, "the table holds means over seeds"),
        ({"label_verdict": "censored"}, "the baselines have no row with a clear verdict"),
    ],
)
def test_a_table_of_something_else_is_refused_in_one_line(spec, change, complaint):
    table = scripted_zoo(spec).assign(**change)
    with pytest.raises(InputError, match=complaint):
        plan_interventions(scripted_diagnoser(), spec, table, InterventionOptions(cells=2))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"cells": 0}, "cells = 0"), ({"seeds": 0}, "seeds = 0"), ({"draw": -1}, "draw = -1"), ({"evidence": "x"}, "'x'")],
)
def test_options_that_make_no_sense_are_refused(options, complaint):
    with pytest.raises(InputError, match=complaint):
        InterventionOptions(**options)


def test_evidence_without_a_tree_is_refused(spec):
    with pytest.raises(InputError, match="no tree for question 'verdict' with evidence 'alone'"):
        planned(spec, evidence="alone")


def test_tables_are_left_as_they_are(spec):
    table = scripted_zoo(spec, by_rate)
    before = table.copy()
    plan_interventions(scripted_diagnoser(), spec, table, InterventionOptions(cells=5))
    pd.testing.assert_frame_equal(table, before)
