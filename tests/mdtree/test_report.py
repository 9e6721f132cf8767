"""Text reports print the result they were given, thresholds as walked."""

import dataclasses

from synthetic_zoo import synthetic_zoo
from test_diagnoser import record_of, small_diagnoser

from mdtree.diagnoser import diagnose_record
from mdtree.evaluation import evaluate
from mdtree.fitting import fit_diagnoser
from mdtree.nodes import Step
from mdtree.record import NotMeasured
from mdtree.report import diagnosis_text, flag_text, record_text, scores_text, step_words, table


def cold():
    return diagnose_record(small_diagnoser(), record_of(log_weight_growth=0.5, train_error_percent=20.0))


def test_the_verdict_comes_first_with_what_to_try():
    lines = diagnosis_text(cold()).splitlines()
    assert lines[0] == "a.pt"
    assert lines[2] == "  Verdict   temperature too low  (80%, unconverged)"
    assert lines[3] == "  Try       learning rate 0.2 → 0.8 (or batch size 16 → 4), or train longer"
    assert lines[4] == "  Expect    +5.0 ± 0.5 points of test accuracy"


def test_the_path_is_printed_as_walked():
    text = diagnosis_text(cold())
    assert "log_weight_growth = 0.5   ≤ 1   as 50% of the zoo here" in text
    assert "train_error_percent = 20  > 10  as 25% of the zoo here" in text


def test_thresholds_are_printed_with_the_digits_that_decide():
    """A threshold rounded for print once contradicted the side taken."""
    step = Step("hessian_trace", 1.0000001, None, 1.00000015, "left", 0.5, False)
    assert step_words(step)[1] == "≤ 1.00000015"


def test_a_healthy_network_is_told_to_stay_as_it_is():
    healthy = diagnose_record(small_diagnoser(), record_of(log_weight_growth=0.5, train_error_percent=2.0))
    assert "Try       nothing" in diagnosis_text(healthy)


def test_an_undetermined_verdict_names_the_leader_and_what_would_settle_it():
    values = {"train_error_over_chance": 0.97, "train_error_percent": 88.0, "log_weight_growth": 0.1}
    text = diagnosis_text(diagnose_record(small_diagnoser(), record_of(**values)))
    assert "Verdict   undetermined" in text
    assert "Leading   temperature too low, not by enough to say so" in text
    assert "did not train" in text
    assert "to settle it: a sibling" in text


def test_reasons_for_what_was_not_measured_are_grouped():
    record = dataclasses.replace(
        cold().record, not_measured=(NotMeasured("cka", "no sibling"), NotMeasured("cka_mixup", "no sibling"))
    )
    assert "cka, cka_mixup: no sibling" in record_text(record)


def test_scores_show_every_baseline():
    zoo = synthetic_zoo()
    text = scores_text(evaluate(fit_diagnoser(zoo, "synthetic"), zoo))
    assert text.startswith("64 networks in 16 cells (held out rows)")
    for name in ("tree, sibling test", "majority", "hyperparameters", "validation"):
        assert text.count(name) == 4


def test_columns_are_even():
    assert table([("a", "1.5"), ("bbb", "10")], right=(1,)) == "  a    1.5\n  bbb   10"


def test_a_record_says_what_its_reader_must_know():
    record = dataclasses.replace(cold().record, flags=("batch_size_halved_to_16", "trace_negative"))
    text = record_text(record)
    assert "  memory ran out: 16 samples at a time were measured; last digits may differ" in text
    assert "  the trace of the Hessian is negative: far from a minimum" in text
    assert "Notes" not in record_text(dataclasses.replace(record, flags=()))


def test_numbers_in_flags_belong_to_the_sentence():
    assert flag_text("budget_cut_samples_to_1024").endswith(
        "measured on 1,024 training samples only, with larger errors"
    )
    assert flag_text("budget_cut_hessian_samples_to_128").endswith("on at most 128 samples")
    assert flag_text("something_new_7") == "something new 7"
