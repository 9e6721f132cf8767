"""What trackers get of a diagnosis: names, numbers, words and the picture; and what happens when a tracker fails."""

import dataclasses
import json
import logging
import math
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_diagnoser import record_of, small_diagnoser

from mdtree.diagnoser import default_diagnoser, diagnose_record
from mdtree.errors import InputError
from mdtree.html_report import html_report
from mdtree.integrations import mlflow, tensorboard, wandb
from mdtree.integrations.trackers import (
    Logged,
    decision_path_picture,
    diagnosis_numbers,
    diagnosis_words,
    log_everywhere,
    logged,
)
from mdtree.record import record_from_dict
from mdtree.report import diagnosis_text
from mdtree.zoo import CAUSES


def cold(**values):
    measured = {"log_weight_growth": 0.5, "train_error_percent": 20.0, **values}
    return diagnose_record(small_diagnoser(), record_of(errors={"log_weight_growth": 0.01}, **measured))


def test_every_number_has_the_name_that_is_documented():
    assert diagnosis_numbers(cold()) == {
        "mdtree/confidence": 0.8,
        "mdtree/probability/temperature_too_low": 0.8,
        "mdtree/probability/temperature_too_high": pytest.approx(0.05),
        "mdtree/probability/model_too_small": pytest.approx(0.05),
        "mdtree/probability/too_little_data": pytest.approx(0.05),
        "mdtree/probability/healthy": pytest.approx(0.05),
        **{f"mdtree/expected_gain_points/{cause}": 5.0 for cause in CAUSES.values()},
        **{f"mdtree/expected_gain_points/{cause}_standard_error": 0.5 for cause in CAUSES.values()},
        **{f"mdtree/room_points/{cause}": 7.0 for cause in CAUSES.values()},
        "mdtree/metrics/log_weight_growth": 0.5,
        "mdtree/metrics/log_weight_growth_standard_error": 0.01,
        "mdtree/metrics/train_error_percent": 20.0,
    }


def test_numbers_that_no_tracker_can_draw_are_left_out():
    found = cold()
    metrics = {
        **found.record.metrics,
        "hessian_trace": dataclasses.replace(found.record.metrics["log_weight_growth"], standard_error=math.inf),
    }
    found = dataclasses.replace(found, record=dataclasses.replace(found.record, metrics=metrics))
    numbers = diagnosis_numbers(found)
    assert numbers["mdtree/metrics/hessian_trace"] == 0.5
    assert "mdtree/metrics/hessian_trace_standard_error" not in numbers
    assert all(map(math.isfinite, numbers.values()))


def test_a_cause_of_a_strange_name_is_one_every_tracker_takes():
    found = cold()
    odd = dataclasses.replace(found.ranking[0], failure="../a b\n<x>")
    numbers = diagnosis_numbers(dataclasses.replace(found, ranking=(odd,)))
    assert numbers["mdtree/probability/___a_b__x_"] == 0.8


def test_the_words_say_what_to_try():
    assert diagnosis_words(cold()) == {
        "verdict": "temperature_too_low",
        "reason": "unconverged",
        "leading": "temperature_too_low",
        "advice": "learning rate 0.2 → 0.8 (or batch size 16 → 4), or train longer",
        "evidence": "alone",
        "diagnoser": "small",
        "protocol": "p",
    }


def test_of_an_undetermined_verdict_the_leader_is_told_and_nothing_advised():
    words = diagnosis_words(dataclasses.replace(cold(), verdict="undetermined"))
    assert words["verdict"] == "undetermined"
    assert words["leading"] == "temperature_too_low"
    assert "advice" not in words


def test_words_are_one_printable_line_and_not_endless():
    found = cold()
    hostile = dataclasses.replace(found.record, protocol={"digest": "p\n\x1b[31mred\u202e" + "x" * 9000})
    words = diagnosis_words(dataclasses.replace(found, record=hostile))
    assert words["protocol"].startswith(r"'p\n\x1b[31mred\u202exxx")
    assert len(words["protocol"]) == 480
    assert words["protocol"].isprintable()


def test_the_files_are_the_report_and_a_record_that_opens_again():
    found = cold()
    everything = logged(found, small_diagnoser())
    assert everything.text == diagnosis_text(found)
    assert everything.files["report.txt"].decode() == diagnosis_text(found) + "\n"
    assert everything.files["report.html"].decode() == html_report([found], small_diagnoser())
    assert everything.files["decision_path.png"].startswith(b"\x89PNG")
    values = json.loads(everything.files["diagnosis.json"])
    assert values["verdict"] == "temperature_too_low"
    again = diagnose_record(small_diagnoser(), record_from_dict(values))
    assert (again.verdict, again.path) == (found.verdict, found.path)


def test_the_picture_is_drawn_without_a_trace_in_matplotlib():
    backend, figures = matplotlib.get_backend(), plt.get_fignums()
    settings = matplotlib.rcParams.copy()
    picture = decision_path_picture(cold(), small_diagnoser())
    assert (picture.dtype, picture.shape[2]) == (np.uint8, 3)
    assert min(picture.shape[:2]) > 200
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50  # ink, not an empty page
    assert (picture[-1] == 255).all()
    assert (matplotlib.get_backend(), plt.get_fignums()) == (backend, figures)
    assert matplotlib.rcParams == settings


def test_the_picture_shows_the_way_that_was_walked():
    hot = diagnose_record(small_diagnoser(), record_of(log_weight_growth=1.5, train_error_percent=20.0))
    pictures = [decision_path_picture(found, small_diagnoser()) for found in (cold(), hot)]
    assert pictures[0].shape != pictures[1].shape or (pictures[0] != pictures[1]).mean() > 0.01


def test_a_composed_verdict_shows_the_trees_of_its_questions_too():
    found = diagnose_record(default_diagnoser(), record_of(log_weight_growth=0.5, train_error_percent=20.0))
    asked = {step.question for step in found.path}
    assert len(asked) >= 2
    picture = decision_path_picture(found, default_diagnoser())
    small = decision_path_picture(cold(), small_diagnoser())
    assert picture.shape[0] > 2 * small.shape[0]
    assert picture.shape[1] < 2600


def test_a_path_of_another_diagnoser_is_not_drawn_on_this_ones_tree():
    everything = logged(cold())
    assert everything.picture is None
    assert sorted(everything.files) == ["diagnosis.json", "report.txt"]
    with pytest.raises(InputError, match="the diagnosis is by small, the diagnoser given is reference"):
        logged(cold(), default_diagnoser())
    renamed = dataclasses.replace(small_diagnoser(), zoo={**small_diagnoser().zoo, "rows": 31})
    with pytest.raises(InputError, match="expected the diagnoser that decided"):
        logged(cold(), renamed)


def test_a_tracker_that_fails_is_warned_of_and_the_next_one_is_written(caplog):
    written = []

    def broken(_):
        raise ConnectionError("no route to host")

    with caplog.at_level(logging.WARNING, logger="mdtree"):
        log_everywhere(cold(), [("MLflow", broken), ("TensorBoard", written.append)])
    [everything] = written
    assert isinstance(everything, Logged)
    [line] = [record.getMessage() for record in caplog.records]
    assert line == "mdtree: the diagnosis is not in MLflow (ConnectionError: no route to host)"


@pytest.mark.parametrize(
    ("module", "write", "name"),
    [
        ("torch.utils.tensorboard", lambda folder: tensorboard.log_diagnosis(cold(), folder), "tensorboard"),
        ("mlflow", lambda _: mlflow.log_diagnosis(cold()), "mlflow"),
        ("wandb", lambda _: wandb.log_diagnosis(cold()), "wandb"),
    ],
)
def test_a_tracker_that_is_not_there_is_named_with_its_extra(monkeypatch, tmp_path, module, write, name):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"not installed .*pip install 'mdtree-diagnosis\[{name}\]'"):
        write(tmp_path)
