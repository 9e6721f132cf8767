"""What ships with the package: the digits zoo, the diagnoser fitted on it, and the sample checkpoints."""

import math
from pathlib import Path

import numpy as np
import pytest

from mdtree.diagnose import Sources, measure
from mdtree.diagnoser import default_diagnoser, diagnose_record
from mdtree.diagnoser_schema import diagnoser_to_dict
from mdtree.evaluation import evaluate
from mdtree.fitting import fit_diagnoser
from mdtree.nodes import depth, leaf_weights, leaves, walk
from mdtree.room import label_zoo
from mdtree.spec_file import read_spec
from mdtree.zoo import EVIDENCE, FAILURES, METRICS, QUESTIONS, read_zoo

ZOO = Path(__file__).parents[2] / "zoo_samples"
CHECKPOINTS = sorted((ZOO / "checkpoints").glob("*-[0-9].pt"))


@pytest.fixture(scope="module")
def table():
    return read_zoo(ZOO / "digits_mlp.csv")


@pytest.fixture(scope="module")
def embedded():
    return default_diagnoser()


@pytest.mark.slow
def test_refitting_on_the_table_gives_the_embedded_diagnoser(table, embedded):
    assert diagnoser_to_dict(fit_diagnoser(table, "digits_mlp")) == diagnoser_to_dict(embedded)


def walked_by_hand(tree, values):
    """The walk as a reader does it: at each question, left if the value is at most the threshold."""
    while "label" not in tree:
        value = values[tree["feature"]]
        if math.isnan(value):
            return None
        tree = tree["left"] if value <= tree["threshold"] else tree["right"]
    return tree["label"], tree["index"]


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("question", QUESTIONS)
def test_the_walk_agrees_with_one_by_hand_on_every_row(table, embedded, question, evidence):
    node = embedded.tree(question, evidence).tree
    as_json = diagnoser_to_dict(embedded)["trees"][question][evidence]["tree"]
    rows = table[list(METRICS)].to_dict("records")
    vectorised = leaf_weights(node, {name: table[name].to_numpy(dtype=float) for name in METRICS}, len(rows))
    compared = 0
    for number, values in enumerate(rows):
        by_hand = walked_by_hand(as_json, values)
        reached = walk(node, values).leaves
        if by_hand is None:
            assert len(reached) > 1
            assert sum(weight for _, weight in reached) == pytest.approx(1)
            continue
        compared += 1
        assert [(leaf.label, leaf.index) for leaf, _ in reached] == [by_hand]
        assert np.flatnonzero(vectorised[number]).tolist() == [by_hand[1]]
    assert compared > 0.75 * len(rows)


def test_every_tree_can_be_read(embedded):
    for by_evidence in embedded.trees.values():
        for question in by_evidence.values():
            assert depth(question.tree) <= 4
            assert len(leaves(question.tree)) <= 8


def test_the_tables_labels_follow_from_its_test_errors(table):
    again = label_zoo(table)
    for question in QUESTIONS:
        assert (again[f"label_{question}"] == table[f"label_{question}"]).all()


def test_table_specification_and_protocol_belong_together(table, embedded):
    spec = read_spec(ZOO / "digits_mlp.toml")
    assert set(table["protocol"]) == {spec.protocol.digest()} == set(embedded.zoo["protocols"])
    assert set(table.loc[table["split"] == "held_out", "cell"]) == spec.held_out_cells()
    assert len(table) == len(spec.cells()) * spec.seeds


def test_each_cause_is_the_best_action_in_a_tenth_of_the_cells(table):
    cells = table[~table["label_verdict"].isin(["ambiguous", "censored"])]
    shares = cells["label_verdict"].value_counts(normalize=True)
    assert all(shares[cause] >= 0.1 for cause in FAILURES if cause != "healthy")
    assert shares["healthy"] >= 0.04


@pytest.fixture(scope="module")
def sample_diagnoses(embedded):
    """Truth, verdict with sibling and verdict without, of every sample checkpoint."""
    found = []
    for path in CHECKPOINTS:
        record = measure(path, Sources(siblings=(path.with_suffix(".sibling.pt"),)))
        alone = diagnose_record(embedded, measure(path))
        found.append((path.stem.rsplit("-", 1)[0], diagnose_record(embedded, record), alone))
    return found


def test_most_sample_checkpoints_are_diagnosed_as_their_true_cause(sample_diagnoses):
    assert len(sample_diagnoses) == 8
    assert {truth for truth, _, _ in sample_diagnoses} == set(FAILURES)
    assert sum(truth == pair.verdict for truth, pair, _ in sample_diagnoses) >= 6
    assert sum(truth == alone.verdict for truth, _, alone in sample_diagnoses) >= 6


def test_samples_measure_as_their_rows_say(sample_diagnoses, table):
    """Six digits on the machine the table was built on; another one may round differently, not more."""
    for _, pair, _ in sample_diagnoses:
        recipe, metrics = pair.record.recipe, pair.record.metrics
        row = table[
            (table["width"] == recipe["width"])
            & (table["train_size"] == recipe["train_size"])
            & (table["learning_rate"] == recipe["learning_rate"])
            & (table["label_noise"] == recipe["label_noise"])
            & (table["seed"] == 0)
        ].iloc[0]
        for name in ("train_loss", "test_loss", "hessian_trace", "hessian_top_eigenvalue", "log_weight_growth"):
            assert metrics[name].value == pytest.approx(row[name], rel=1e-3), name
        assert metrics["test_error_percent"].value == pytest.approx(row["test_error_percent"], abs=0.3)


def test_samples_are_small():
    assert all(path.stat().st_size < 200_000 for path in (ZOO / "checkpoints").iterdir())


def test_held_out_scores_are_what_the_readme_says(table, embedded):
    scores = evaluate(embedded, table)["questions"]
    assert scores["temperature"]["sibling"]["balanced_accuracy"] > 0.9
    assert scores["temperature"]["sibling"]["baselines"]["validation"]["balanced_accuracy"] < 0.85
    assert scores["verdict"]["sibling_test"]["balanced_accuracy"] > 0.8
    assert scores["verdict"]["sibling_test"]["gain_captured"] > 0.95
    assert scores["verdict"]["alone"]["balanced_accuracy"] > 0.7
