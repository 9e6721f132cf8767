"""A diagnosis as a table, as JSON text and in a notebook."""

import dataclasses
import json

import pandas as pd
from test_diagnoser import record_of, small_diagnoser

from mdtree.diagnoser import diagnose_record
from mdtree.diagnosis_views import FRAME_COLUMNS, to_frame, to_html, to_json
from mdtree.record import read_record
from mdtree.zoo import FAILURES


def cold(path="a.pt"):
    record = record_of(log_weight_growth=0.5, train_error_percent=20.0)
    return diagnose_record(small_diagnoser(), dataclasses.replace(record, checkpoint={"path": path}))


def test_a_frame_has_one_row_for_every_cause():
    frame = to_frame(cold())
    assert tuple(frame.columns) == FRAME_COLUMNS
    assert frame["rank"].tolist() == [1, 2, 3, 4, 5]
    assert set(frame["failure"]) == set(FAILURES)
    assert frame["probability"].is_monotonic_decreasing
    first = frame.iloc[0]
    assert (first["verdict"], first["failure"], first["reason"]) == ("temperature_too_low",) * 2 + ("unconverged",)
    assert (first["parameter"], first["from"], first["to"]) == ("learning_rate", 0.2, 0.8)
    healthy = frame[frame["failure"] == "healthy"].iloc[0]
    assert pd.isna(healthy["advice"])


def test_frames_of_several_make_one_table():
    table = pd.concat([to_frame(cold("a.pt")), to_frame(cold("b.pt"))], ignore_index=True)
    leading = table[table["rank"] == 1]
    assert leading["checkpoint"].tolist() == ["a.pt", "b.pt"]


def test_json_is_what_a_record_is_read_from(tmp_path):
    text = to_json(cold())
    (tmp_path / "diagnosis.json").write_text(text)
    assert read_record(tmp_path / "diagnosis.json").metrics == cold().record.metrics
    assert json.loads(text) == json.loads(json.dumps(cold().to_dict()))


def test_a_notebook_shows_verdict_advice_and_causes():
    page = to_html(cold())
    assert "<strong>temperature too low</strong> 80%, unconverged" in page
    assert "learning rate 0.2 → 0.8" in page
    assert page.count("<tr>") == 1 + len(FAILURES) + len(cold().path)
    assert "log_weight_growth</td><td>0.5 ≤ 1</td>" in page


def test_names_from_files_are_no_html():
    page = to_html(cold("\u202e<script>alert(1)<b>.pt"))
    assert "<script" not in page
    assert "&lt;" in page
    assert "\u202e" not in page


def test_a_diagnosis_offers_them_itself():
    diagnosis = cold()
    assert diagnosis.to_json() == to_json(diagnosis)
    assert diagnosis.to_frame().equals(to_frame(diagnosis))
    assert diagnosis._repr_html_() == to_html(diagnosis)
