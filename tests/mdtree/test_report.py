"""Scores, tables and flags as text: the result they were given, nothing else."""

from synthetic_zoo import synthetic_zoo

from mdtree.evaluation import evaluate
from mdtree.fitting import fit_diagnoser
from mdtree.report import flag_text, scores_text, table


def test_scores_show_every_baseline():
    zoo = synthetic_zoo()
    text = scores_text(evaluate(fit_diagnoser(zoo, "synthetic"), zoo))
    assert text.startswith("64 networks in 16 cells (held out rows)")
    for name in ("tree, sibling test", "majority", "hyperparameters", "validation"):
        assert text.count(name) == 4


def test_columns_are_even():
    assert table([("a", "1.5"), ("bbb", "10")], right=(1,)) == "  a    1.5\n  bbb   10"


def test_numbers_in_flags_belong_to_the_sentence():
    assert flag_text("budget_cut_samples_to_1024").endswith(
        "measured on 1,024 training samples only, with larger errors"
    )
    assert flag_text("budget_cut_hessian_samples_to_128").endswith("on at most 128 samples")
    assert flag_text("something_new_7") == "something new 7"
