"""What ships with the package: the zoos, the diagnoser fitted on all of them, and the sample checkpoints."""

import math
from pathlib import Path

import numpy as np
import pytest

from mdtree.composition import composed_leaf_weights, composed_tree
from mdtree.diagnose import Sources, measure
from mdtree.diagnoser import default_diagnoser, diagnose_record, walk_verdict
from mdtree.diagnoser_schema import TREE_QUESTIONS, diagnoser_to_dict
from mdtree.evaluation import evaluate
from mdtree.fitting import fit_diagnoser
from mdtree.nodes import depth, leaf_weights, leaves, splits, walk
from mdtree.room import label_zoo
from mdtree.spec_file import read_spec
from mdtree.zoo import EVIDENCE, FAILURES, METRICS, QUESTIONS, SIZE_BOUND, read_zoo
from mdtree.zoo_parts import read_zoos

ZOO = Path(__file__).parents[2] / "zoo_samples"
CHECKPOINTS = sorted((ZOO / "checkpoints").glob("*-[0-9].pt"))


@pytest.fixture(scope="module")
def table():
    return read_zoo(ZOO / "digits_mlp.csv")


@pytest.fixture(scope="module")
def tables():
    """All families together."""
    return read_zoos(sorted(ZOO.glob("*.csv")))


@pytest.fixture(scope="module")
def embedded():
    return default_diagnoser()


@pytest.mark.slow
def test_refitting_on_the_tables_gives_the_embedded_diagnoser(tables, embedded):
    assert diagnoser_to_dict(fit_diagnoser(tables, "reference")) == diagnoser_to_dict(embedded)


def test_the_embedded_diagnoser_names_the_zoos_it_was_fitted_on(tables, embedded):
    assert embedded.zoo["families"] == sorted(file.stem for file in ZOO.glob("*.csv"))
    assert embedded.zoo["data_sets"] == sorted(set(tables["data_set"]))
    assert embedded.zoo["rows"] == ((tables["split"] == "fit") & (tables["diverged"] == 0)).sum()


def walked_by_hand(tree, values):
    """The walk as a reader does it: at each question, left if the value is at most the threshold."""
    while "label" not in tree:
        value = values[tree["feature"]]
        if math.isnan(value):
            return None
        tree = tree["left"] if value <= tree["threshold"] else tree["right"]
    return tree["label"], tree["index"]


YES = {
    "answer_healthy": ("healthy", "healthy"),
    "answer_model_size": ("model_size", "model_too_small"),
    "answer_data": ("data", "too_little_data"),
    "answer_temperature": ("temperature", "temperature_too_high"),
    "answer_model_or_data": ("model_or_data", "model_too_small"),
}
"""What a composed verdict asks: of which question, and what its positive answer is."""


def verdict_by_hand(trees, evidence, values):
    """The verdict as a reader finds it: question by question, each walked by hand; and the metrics asked for."""
    node, asked = trees["verdict"][evidence]["tree"], []
    while "label" not in node:
        question, yes = YES[node["feature"]]
        answer = walked_by_hand(trees[question][evidence]["tree"], values)
        if answer is None:
            return None
        asked.append(question)
        node = node["right"] if answer[0] == yes else node["left"]
    return node["label"], node["index"], asked


def test_the_verdict_is_composed_for_every_evidence(embedded):
    assert set(embedded.trees) == set(TREE_QUESTIONS)
    for evidence in EVIDENCE:
        verdict, fixed = embedded.tree("verdict", evidence).tree, composed_tree(healthy=True)
        assert [(s.feature, s.threshold) for s in splits(verdict)] == [(s.feature, s.threshold) for s in splits(fixed)]
        assert [leaf.label for leaf in leaves(verdict)] == [leaf.label for leaf in leaves(fixed)]
        for question, tree in embedded.nodes(evidence).items():
            if question != "verdict":
                asked = {split.feature for split in splits(tree)}
                assert asked, question
                assert asked <= set(METRICS) - set(SIZE_BOUND)


@pytest.fixture(scope="module")
def some_of_every_family(tables):
    rows = tables[tables["diverged"] == 0].iloc[::4]
    assert set(rows["family"]) == set(tables["family"])
    return rows


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("question", [name for name in TREE_QUESTIONS if name != "verdict"])
def test_the_walk_agrees_with_one_by_hand(some_of_every_family, embedded, question, evidence):
    node = embedded.tree(question, evidence).tree
    as_json = diagnoser_to_dict(embedded)["trees"][question][evidence]["tree"]
    rows = some_of_every_family[list(METRICS)].to_dict("records")
    columns = {name: some_of_every_family[name].to_numpy(dtype=float) for name in METRICS}
    vectorised = leaf_weights(node, columns, len(rows))
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


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_the_verdict_agrees_with_one_walked_by_hand(some_of_every_family, embedded, evidence):
    trees = diagnoser_to_dict(embedded)["trees"]
    rows = some_of_every_family[list(METRICS)].to_dict("records")
    columns = {name: some_of_every_family[name].to_numpy(dtype=float) for name in METRICS}
    nodes = embedded.nodes(evidence)
    vectorised = composed_leaf_weights(nodes["verdict"], nodes, columns, len(rows))
    assert vectorised.sum(axis=1) == pytest.approx(np.ones(len(rows)))
    compared, seen = 0, set()
    for number, values in enumerate(rows):
        walked = walk_verdict(embedded, evidence, values)
        reached = {leaf.index: weight for leaf, weight in walked.leaves}
        assert vectorised[number] == pytest.approx([reached.get(leaf, 0.0) for leaf in range(7)])
        by_hand = verdict_by_hand(trees, evidence, values)
        if by_hand is None:
            continue
        compared += 1
        seen.add(by_hand[1])
        assert [(leaf.label, leaf.index, weight) for leaf, weight in walked.leaves] == [(*by_hand[:2], 1.0)]
        assert list(dict.fromkeys(step.question for step in walked.path)) == by_hand[2]
    assert compared > 0.75 * len(rows)
    assert seen == set(range(7))


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


def test_held_out_networks_of_the_digits_zoo_are_told(table, embedded):
    """A diagnoser of nineteen families on cells of one that it was not fitted on."""
    scores = evaluate(embedded, table)["questions"]
    for evidence in EVIDENCE:
        assert scores["temperature"][evidence]["balanced_accuracy"] > 0.9
        assert scores["temperature"][evidence]["baselines"]["validation"]["balanced_accuracy"] < 0.85
        assert scores["temperature"][evidence]["gain_captured"] > 0.96
        assert scores["model_size"][evidence]["balanced_accuracy"] > 0.9
        assert scores["data"][evidence]["balanced_accuracy"] > 0.87
        assert scores["verdict"][evidence]["balanced_accuracy"] > 0.64
        assert scores["verdict"][evidence]["gain_captured"] > 0.93
    assert scores["verdict"]["sibling_test"]["balanced_accuracy"] > 0.7
