"""Leaving parts of zoos out: what is fitted, what is asked, and what the figures of a run count."""

import json
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
import pytest
from transfer_zoos import QUICK, answer_table, family, together, turned_round

from mdtree.errors import InputError
from mdtree.transfer_methods import BASELINES, Method
from mdtree.zoo import EVIDENCE, PAIR_METRICS, QUESTIONS, TEST_METRICS
from mdtree.zoo_transfer import Run, has_evidence, run_figures, run_transfer


def find(result, left_out, question, evidence, method="default"):
    key = (left_out, question, evidence, method)
    (run,) = [r for r in result.runs if (r.left_out, r.question, r.evidence, r.method) == key]
    return run


@pytest.fixture(scope="module")
def exchanging():
    return run_transfer(together(family("a", 0), family("b", 1)), "family", methods=QUICK)


def test_families_of_one_formula_exchange(exchanging):
    for left_out in "ab":
        run = find(exchanging, left_out, "temperature", "alone")
        assert run.balanced_accuracy == 1.0
        assert run.gain_captured == pytest.approx(1.0, abs=1e-3)
        assert run.interval == (1.0, 1.0)
        assert find(exchanging, left_out, "temperature", "alone", "majority").balanced_accuracy == 0.5


def test_a_family_whose_metrics_are_turned_round_is_answered_wrongly():
    result = run_transfer(together(family("a"), turned_round(family("b", 1))), "family", methods=QUICK)
    run = find(result, "b", "temperature", "alone")
    assert run.balanced_accuracy < 0.1
    assert run.gain_captured < 0.1
    # the settings mean the same in both
    assert find(result, "b", "temperature", "alone", "hyperparameters").balanced_accuracy == 1.0


def test_every_question_evidence_and_method_has_a_run(exchanging):
    keys = {(r.left_out, r.question, r.evidence, r.method) for r in exchanging.runs}
    names = [method.name for method in QUICK]
    assert keys == {(p, q, e, m) for p in "ab" for q in QUESTIONS for e in EVIDENCE for m in names}
    assert len(keys) == len(exchanging.runs)
    assert exchanging.gaps == ()


def test_baselines_do_not_depend_on_the_evidence(exchanging):
    for name in ("majority", "hyperparameters"):
        runs = [find(exchanging, "a", "data", evidence, name) for evidence in EVIDENCE]
        assert all(replace(run, evidence="") == replace(runs[0], evidence="") for run in runs)


def test_json_holds_the_default_method_and_runs_with_shares(exchanging):
    values = json.loads(json.dumps(exchanging.to_dict(), allow_nan=False))
    assert set(values) == {"default_method", "runs"}
    assert values["default_method"] == "default"
    assert {run["method"] for run in values["runs"]} >= {"default", "majority", "hyperparameters", "parameter_count"}
    for run in values["runs"]:
        assert set(run) == {field.name for field in fields(Run)}
        low, high = run["interval"]
        assert 0 <= low <= run["balanced_accuracy"] <= high <= 1
        assert 0 <= run["coverage"] <= 1
        assert run["gain_captured"] <= 1
        assert run["n"] + run["n_censored"] + run["n_diverged"] + run["n_not_measured"] == 256


@dataclass
class Watched:
    """A method that keeps what it was fitted on and asked about, and gives one answer."""

    answer: str = "temperature_too_low"

    def __post_init__(self):
        self.fitted, self.asked = [], []

    def fit(self, rows):
        self.fitted.append(rows)

        def answering(rows, question, evidence):
            self.asked.append(rows)
            if question not in ("temperature", "verdict"):
                raise InputError(f"nothing is known of {question}")
            return np.full(len(rows), self.answer)

        return answering


def test_all_rows_of_the_rest_are_fitted_and_none_of_the_part():
    frame = together(family("a"), family("b"))
    assert (frame["split"] == "held_out").any()
    watched = Watched()
    run_transfer(frame, "family", methods=[Method("watched", watched.fit, sees_evidence=True)])
    without_a, without_b = watched.fitted
    assert set(without_a["family"]) == {"b"}
    assert set(without_b["family"]) == {"a"}
    assert [len(rows) for rows in watched.fitted] == [256, 256]
    assert set(without_a["split"]) == {"fit"}
    assert {name for rows in watched.asked[: len(watched.asked) // 2] for name in rows["family"]} == {"a"}


def test_what_a_method_cannot_answer_is_a_gap_with_its_reason():
    watched = Watched()
    methods = [Method("watched", watched.fit, sees_evidence=True), BASELINES[0]]
    result = run_transfer(together(family("a"), family("b")), "family", methods=methods)
    gaps = [gap for gap in result.gaps if gap.left_out == "a" and gap.question == "data"]
    assert [(gap.evidence, gap.method, gap.reason) for gap in gaps] == [
        (evidence, "watched", "nothing is known of data") for evidence in EVIDENCE
    ]
    assert find(result, "a", "data", "alone", "majority").n == 192


def test_a_method_that_cannot_be_fitted_leaves_the_others_running():
    def refuse(rows):
        raise InputError("too few rows")

    result = run_transfer(together(family("a"), family("b")), "family", methods=[Method("no", refuse), BASELINES[0]])
    assert {run.method for run in result.runs} == {"majority"}
    assert {(gap.method, gap.reason) for gap in result.gaps} == {("no", "too few rows")}


def test_a_method_upon_another_takes_what_that_one_fitted():
    """It is fitted once a part, upon the default's answers, and asked its own question alone."""
    watched, taken = Watched(), []

    def withheld(fitted):
        taken.append(fitted)
        return lambda rows, question, evidence: np.full(len(rows), "undetermined")

    upon = Method("upon", withheld, sees_evidence=True, questions=("temperature",), upon="watched")
    result = run_transfer(
        together(family("a"), family("b")),
        "family",
        methods=[Method("watched", watched.fit, sees_evidence=True), upon, BASELINES[0]],
    )
    assert (len(watched.fitted), len(taken)) == (2, 2)
    assert all(fitted(family("a"), "temperature", "alone")[0] == watched.answer for fitted in taken)
    assert {run.question for run in result.runs if run.method == "upon"} == {"temperature"}
    assert not [gap for gap in result.gaps if gap.method == "upon"]
    run = find(result, "a", "temperature", "alone", "upon")
    assert (run.coverage, run.balanced_accuracy, run.n) == (0.0, 0.0, 256)
    assert find(result, "a", "temperature", "alone", "watched").coverage == 1.0


def test_a_method_upon_one_that_could_not_be_fitted_says_why():
    def refuse(rows):
        raise InputError("too few rows")

    def never(fitted):
        raise AssertionError("there is nothing to take")

    methods = [Method("no", refuse), Method("upon", never, questions=("temperature",), upon="no"), BASELINES[0]]
    result = run_transfer(together(family("a"), family("b")), "family", methods=methods)
    told = {(gap.question, gap.reason) for gap in result.gaps if gap.method == "upon"}
    assert told == {("temperature", "too few rows")}


def test_a_part_without_test_data_is_asked_only_what_needs_none():
    frame = together(family("a"), family("b").assign(**dict.fromkeys(TEST_METRICS, np.nan)))
    result = run_transfer(frame, "family", methods=QUICK)
    assert {run.evidence for run in result.runs if run.left_out == "b"} == {"alone", "sibling"}
    assert {run.evidence for run in result.runs if run.left_out == "a"} == set(EVIDENCE)
    told = {(gap.left_out, gap.evidence) for gap in result.gaps if gap.question == "temperature"}
    assert told == {("b", "alone_test"), ("b", "sibling_test")}


def test_a_part_of_one_width_is_not_asked_for_the_model_size():
    narrow = family("b")
    narrow = narrow[narrow["width"] == 8].assign(label_model_size="censored", rfi_model_size_points=np.nan)
    result = run_transfer(together(family("a"), narrow), "family", methods=QUICK)
    assert {run.question for run in result.runs if run.left_out == "b"} == {"temperature", "data", "verdict"}
    (gap,) = [gap for gap in result.gaps if gap.left_out == "b" and gap.question == "model_size"]
    assert gap.reason == "no network has a clear answer: nothing to tell apart"


def test_one_kind_of_answer_is_nothing_to_tell_apart():
    frame = family("b")
    hot = frame[frame["label_temperature"] != "temperature_too_low"]
    result = run_transfer(together(family("a"), hot), "family", methods=QUICK)
    (gap,) = [gap for gap in result.gaps if gap.left_out == "b" and gap.question == "temperature"]
    assert gap.reason == "all that is clear is temperature too high: nothing to tell apart"


def test_rows_not_asked_about_are_counted():
    other = family("b")
    other.loc[other.index[:3], "diverged"] = 1
    other.loc[other.index[3:8], list(PAIR_METRICS)] = np.nan
    result = run_transfer(together(family("a"), other), "family", methods=QUICK)
    run = find(result, "b", "temperature", "sibling")
    assert (run.n, run.n_diverged, run.n_not_measured, run.n_censored) == (248, 3, 5, 0)
    assert find(result, "b", "temperature", "alone").n == 253
    assert run.n_ambiguous == (other["label_temperature"][8:] == "ambiguous").sum()
    assert find(result, "a", "temperature", "alone").n_fitted == 253
    assert run.cells == 64 - 2  # the first two cells have lost all their networks


def test_evidence_needs_a_metric_of_every_kind():
    rows = family("a").head(4).reset_index(drop=True)
    rows.loc[0, list(PAIR_METRICS)] = np.nan
    rows.loc[1, list(TEST_METRICS)] = np.nan
    rows.loc[2, list(PAIR_METRICS[1:])] = np.nan
    assert has_evidence(rows, "alone").all()
    assert has_evidence(rows, "sibling").tolist() == [False, True, True, True]
    assert has_evidence(rows, "alone_test").tolist() == [True, False, True, True]
    assert has_evidence(rows, "sibling_test").tolist() == [False, False, True, True]


def test_means_over_seeds_join_with_what_they_have():
    means = family("means").drop_duplicates("cell").assign(seed=np.nan, protocol="published", log_weight_growth=np.nan)
    result = run_transfer(together(family("a"), means), "family", methods=QUICK)
    assert find(result, "means", "temperature", "alone").n == 64
    assert find(result, "a", "temperature", "alone").n_fitted == 64


def test_the_result_does_not_depend_on_the_number_of_workers():
    frame = together(family("a"), family("b", 1), family("c", 2))
    seen = []
    one = run_transfer(frame, "family", methods=QUICK, progress=lambda name, share: seen.append((name, share)))
    two = run_transfer(frame, "family", methods=QUICK, workers=2)
    assert json.dumps(one.to_dict()) == json.dumps(two.to_dict())
    assert one.gaps == two.gaps
    assert seen == [("a", pytest.approx(1 / 3)), ("b", pytest.approx(2 / 3)), ("c", 1.0)]
    with pytest.raises(InputError, match="workers = 0"):
        run_transfer(frame, "family", workers=0)


def labelled(truth, up, down):
    rows = pd.DataFrame({"family": "f", "cell": [f"c{k}" for k in range(len(truth))], "label_temperature": truth})
    return rows.assign(
        rfi_temperature_up_points=up, rfi_temperature_down_points=down, rfi_model_size_points=0.0, rfi_data_points=0.0
    )


COLD, HOT, WITHHELD = "temperature_too_low", "temperature_too_high", "undetermined"


def test_an_answer_withheld_is_wrong_gains_nothing_and_is_not_counted_among_the_answered():
    rows = labelled([COLD, COLD, COLD, HOT, HOT, "ambiguous"], [8, 8, 8, 0, 0, 2], [0, 0, 0, 4, 4, 2])
    run = run_figures(rows, "temperature", np.array([COLD, COLD, WITHHELD, HOT, COLD, WITHHELD]))
    assert run["accuracy"] == pytest.approx(3 / 5)
    assert run["per_cause"] == {COLD: pytest.approx(2 / 3), HOT: 0.5}
    assert run["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert run["coverage"] == pytest.approx(4 / 6)
    assert run["accuracy_answered"] == pytest.approx(3 / 4)
    assert run["balanced_accuracy_answered"] == pytest.approx((1 + 1 / 2) / 2)
    assert run["gain_captured"] == pytest.approx((8 + 8 + 0 + 4 + 0 + 0) / (8 + 8 + 8 + 4 + 4 + 2))
    assert run["regret_points"] == pytest.approx((8 + 4 + 2) / 6)
    assert (run["n"], run["n_ambiguous"], run["cells"]) == (6, 1, 6)


def test_ambiguous_rows_count_in_the_gain_alone():
    rows = labelled([COLD, HOT, "ambiguous", "ambiguous"], [5, 0, 1, -3], [0, 5, 3, 4])
    run = run_figures(rows, "temperature", np.array([COLD, HOT, COLD, COLD]))
    assert run["balanced_accuracy"] == 1.0
    assert run["gain_captured"] == pytest.approx((5 + 5 + 1 - 3) / (5 + 5 + 3 + 4))


def test_no_answer_at_all_leaves_the_figures_of_the_answered_empty():
    rows = labelled([COLD, HOT], [5, 0], [0, 5])
    run = run_figures(rows, "temperature", np.array([WITHHELD, WITHHELD]))
    assert (run["coverage"], run["balanced_accuracy"]) == (0.0, 0.0)
    assert run["accuracy_answered"] is run["answered_interval"] is run["balanced_accuracy_answered"] is None


def test_the_interval_covers_the_true_figure_as_often_as_it_says():
    """Networks of a cell are answered alike: an interval over networks would be half as wide, and miss it often."""
    recalls, draws = (0.85, 0.6), 200
    truth, held = np.mean(recalls), 0
    for seed in range(draws):
        rows, answers = answer_table(cells=80, per_cell=5, seed=seed, recalls=recalls)
        low, high = run_figures(rows, "temperature", answers)["interval"]
        held += low <= truth <= high
    assert 0.90 <= held / draws <= 0.98
