"""Tables of transfers: means and worst parts, narrow enough to read, nothing dropped in silence."""

import json

import pytest
from click.testing import CliRunner
from transfer_zoos import QUICK, family, together, turned_round

from mdtree.cli.transfer import transfer_command
from mdtree.errors import InputError
from mdtree.transfer_text import gap_lines, summarise, transfer_text
from mdtree.zoo import EVIDENCE, write_zoo
from mdtree.zoo_transfer import Gap, TransferResult, run_transfer

WIDTH = 100


@pytest.fixture(scope="module")
def result():
    narrow = family("digits_layernorm_and_more", 2)
    narrow = narrow[narrow["width"] == 8].assign(label_model_size="censored", rfi_model_size_points=float("nan"))
    return run_transfer(together(family("a"), turned_round(family("b", 1)), narrow), "family", methods=QUICK)


def test_mean_and_worst_are_over_the_parts(result):
    (line,) = [s for s in summarise(result.runs, "default") if (s.question, s.evidence) == ("temperature", "alone")]
    shares = {
        run.left_out: run.balanced_accuracy
        for run in result.runs
        if (run.question, run.evidence, run.method) == ("temperature", "alone", "default")
    }
    assert line.parts == 3
    assert line.balanced_accuracy == pytest.approx(sum(shares.values()) / 3)
    assert (line.worst, line.worst_part) == (min(shares.values()), min(shares, key=shares.get))
    assert line.worst_part == "b"


def test_a_baseline_stands_once_in_a_question(result):
    for question in ("temperature", "verdict"):
        names = [(s.method, s.evidence) for s in summarise(result.runs, "default") if s.question == question]
        trees = [("default", evidence) for evidence in ("alone", "alone_test", "sibling", "sibling_test")]
        assert names == [*trees, ("majority", ""), ("hyperparameters", ""), ("parameter_count", "")]


def test_the_tables_are_narrow_and_name_every_part(result):
    text = transfer_text(result)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.startswith("One family left out: 3 parts\n")
    for words in ("digits_layernorm_and_more", "tree, sibling test", "settings", "gain captured", "Brackets: 95 %"):
        assert words in text
    assert "answered / right" not in text.partition("verdict: balanced")[0]


def test_what_was_not_run_is_said(result):
    line = "not run: digits_layernorm_and_more, model size: no network has a clear answer: nothing to tell apart"
    assert line in gap_lines(result)
    assert line in transfer_text(result).replace("\n  ", " ")


def test_gaps_of_one_reason_share_a_line():
    def gap(question, evidence, method="", reason="none"):
        return Gap("a", question, evidence, method, reason)

    gaps = [gap("data", evidence, "default") for evidence in EVIDENCE]
    gaps += [gap("verdict", evidence, reason="less") for evidence in ("alone_test", "sibling_test")]
    assert gap_lines(TransferResult("family", "default", (), tuple(gaps))) == [
        "not run: a, data, (default): none",
        "not run: a, verdict, (alone test, sibling test): less",
    ]


def test_scale_has_a_table_for_each_kind():
    scale = run_transfer(together(family("a_family_with_a_long_name")), "scale", methods=QUICK)
    text = transfer_text(scale)
    assert max(map(len, text.splitlines())) <= WIDTH
    for heading in ("Fitted on the smallest two widths", "Fitted on the smallest amount", "Fitted on 50 cells"):
        assert heading in text
    assert "a_family_with_a_long_name: cell…" in text


@pytest.fixture
def tables(tmp_path):
    paths = [tmp_path / f"{name}.csv" for name in "ab"]
    for seed, path in enumerate(paths):
        write_zoo(family(path.stem, seed), path)
    return paths


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("mdtree.zoo_transfer.methods_with", lambda: QUICK)


def test_the_command_prints_json_and_keeps_progress_off_it(tables, quick):
    done = CliRunner().invoke(transfer_command, [*map(str, tables), "--leave-out", "family", "--json"])
    values = json.loads(done.stdout)
    assert values["default_method"] == "default"
    assert {run["left_out"] for run in values["runs"]} == {"a", "b"}
    scale = CliRunner().invoke(transfer_command, [str(tables[0]), "--leave-out", "scale", "--json"])
    assert {run["transfer"] for run in json.loads(scale.stdout)["runs"]} == {"width", "train_size", "cells"}
    assert "not run: a: width > 8, model size: all that is clear is temperature" in scale.stderr


def test_the_command_prints_tables(tables, quick):
    done = CliRunner().invoke(transfer_command, [*map(str, tables), "--leave-out", "family"])
    assert done.stdout.startswith("One family left out: 2 parts")


def test_the_command_refuses_what_it_cannot_leave_out(tables):
    alone = CliRunner().invoke(transfer_command, [str(tables[0]), "--leave-out", "family"])
    assert isinstance(alone.exception, InputError)
    assert "the tables hold one family" in str(alone.exception)
    assert CliRunner().invoke(transfer_command, ["--leave-out", "family"]).exit_code == 2
    assert CliRunner().invoke(transfer_command, [str(tables[0])]).exit_code == 2
    assert CliRunner().invoke(transfer_command, [str(tables[0]), "--leave-out", "seed"]).exit_code == 2
