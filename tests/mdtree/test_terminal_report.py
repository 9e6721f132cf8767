"""The report of a diagnosis in a terminal and in a log: what is seen first, how wide, in which characters."""

import dataclasses
import io
import json
import re

import pytest
from test_diagnoser import record_of, small_diagnoser

from mdtree.diagnose import diagnose
from mdtree.diagnoser import diagnose_record
from mdtree.nodes import Step
from mdtree.path_tree_text import gauge, path_lines, short
from mdtree.record import RECORD_METRICS, NotMeasured
from mdtree.terminal_look import INKS, MARKS, PLAIN, Look, look_of
from mdtree.terminal_report import bar_of, comparison_text, diagnosis_text, record_text
from mdtree.zoo import FAILURES

SAMPLE = "zoo_samples/checkpoints/temperature_too_low-1"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def cold(**values):
    return diagnose_record(
        small_diagnoser(), record_of(**{"log_weight_growth": 0.5, "train_error_percent": 20.0, **values})
    )


def asked(metric, value, threshold, error=None):
    side = "left" if value <= threshold else "right"
    return Step(metric, value, error, threshold, side, 0.5, error is not None and abs(value - threshold) < 1.96 * error)


@pytest.fixture(scope="module")
def measured(request):
    folder = request.config.rootpath
    return diagnose(folder / f"{SAMPLE}.pt", siblings=[folder / f"{SAMPLE}.sibling.pt"])


def test_verdict_and_advice_stand_in_the_first_lines():
    assert diagnosis_text(cold()).splitlines()[:5] == [
        "a.pt",
        "",
        "  Verdict  ▼ temperature too low  80%, unconverged",
        "  Try      learning rate 0.2 → 0.8 (or batch size 16 → 4), or train longer",
        "  Expect   +5.0 ± 0.5 points of test accuracy",
    ]


def test_causes_are_ranked_with_a_bar_the_gain_and_the_change():
    lines = diagnosis_text(cold()).splitlines()
    start = lines.index(next(line for line in lines if line.startswith("Causes")))
    assert lines[start + 1].split() == [
        "▼",
        "temperature",
        "too",
        "low",
        "80%",
        "████████████▊",
        "7.0",
        "+5.0",
        "±",
        "0.5",
    ]
    assert lines[start + 2] == "      learning rate 0.2 → 0.8 (or batch size 16 → 4), or train longer"
    ranked = [line for line in lines[start + 1 : start + 10] if "%" in line]
    assert len(ranked) == len(FAILURES)


def test_a_bar_is_as_long_as_its_share():
    assert bar_of(1.0) == "█" * 16
    assert bar_of(0.5) == "█" * 8
    assert bar_of(0.0) == ""
    assert bar_of(1e-9) == "▏", "what is possible is seen"


def test_the_path_is_a_tree_that_ends_in_the_verdict():
    assert path_lines(cold(), PLAIN) == [
        "  ├ log weight growth  0.5  ≤ 1  ┄┄●┄┃┄┄┄┄ 50%",
        "  ├ train error %      20   > 10 ┄┄┄┄┃┄●┄┄ 25%",
        "  └ ▼ temperature too low",
        "    ┃ threshold, ● here, ━ its 95 %, last: share of the zoo",
    ]


def test_questions_stand_on_the_trunk_with_their_answers():
    step = dataclasses.replace(asked("cka", 0.7, 0.9), question="healthy")
    other = dataclasses.replace(asked("logit_spread", 3.0, 0.9), question="temperature")
    answered = dataclasses.replace(
        cold(), path=(step, other), answers={"healthy": False, "temperature": None}, leaves={"temperature_too_low": 1.0}
    )
    assert path_lines(answered, PLAIN) == [
        "  ├ healthy? No.",
        "  │ cka           0.7  ≤ 0.9 ┄┄┄●┃┄┄┄┄ 50%",
        "  ├ temperature too high rather than too low? Both: a metric is missing.",
        "  │ logit spread  3    > 0.9 ┄┄┄┄┃┄┄●┄ 50%",
        "  └ ▼ temperature too low",
        "    ┃ threshold, ● here, ━ its 95 %, last: share of the zoo",
    ]


def test_the_leaf_is_told_where_the_verdict_differs_from_it():
    leaves = {"healthy": 0.25, "model_too_small": 0.75}
    withheld = dataclasses.replace(cold(), verdict="undetermined", leaves=leaves)
    assert path_lines(withheld, PLAIN)[-2] == "  └ ■ model too small (75%), ● healthy (25%); the verdict: undetermined"


@pytest.mark.parametrize(
    ("value", "threshold", "error", "drawn"),
    [
        (1.0, 1.0, 0.0, "┄┄┄●┃┄┄┄┄"),  # on the threshold: goes left
        (1.0000001, 1.0, 0.0, "┄┄┄┄┃●┄┄┄"),
        (0.0, 1.0, 0.0, "●┄┄┄┃┄┄┄┄"),
        (-5.0, 1.0, 0.0, "●┄┄┄┃┄┄┄┄"),
        (1e9, 1.0, 0.0, "┄┄┄┄┃┄┄┄●"),
        (0.9, 1.0, 0.2, "┄┄━●┃━┄┄┄"),  # the error bar reaches over it
        (0.0, 0.0, 0.0, "┄┄┄●┃┄┄┄┄"),
    ],
)
def test_a_gauge_shows_on_which_side_and_how_far(value, threshold, error, drawn):
    assert gauge(asked("cka", value, threshold, error)) == drawn


def test_a_metric_that_is_missing_has_no_gauge():
    missing = dataclasses.replace(cold(), path=(Step("cka", None, None, 0.5, "both", 1.0, False),))
    assert path_lines(missing, PLAIN)[0] == "  ├ cka  not measured  ? 0.5 both ways"


def test_values_read_on_the_side_that_was_taken():
    """A threshold rounded for print once contradicted the side taken."""
    near = dataclasses.replace(cold(), path=(asked("cka", 1.0000001, 1.00000015),))
    assert "1  ≤ 1.00000015" in path_lines(near, PLAIN)[0]
    above = dataclasses.replace(cold(), path=(asked("cka", 1.0000002, 1.00000015),))
    assert "1.0000002  > 1.00000015" in path_lines(above, PLAIN)[0]


def test_the_sign_of_a_close_call_is_explained():
    close = dataclasses.replace(cold(), path=(asked("cka", 0.9, 1.0, 0.2),))
    assert path_lines(close, PLAIN)[0].endswith("50% ≈")
    assert "≈ within its error" in diagnosis_text(close)
    assert "≈" not in diagnosis_text(cold())


def test_names_of_metrics_stay_apart_when_shortened():
    assert short("hessian_top_eigenvalue_per_parameter") == "top eigenvalue / parameter"
    assert len({short(name) for name in RECORD_METRICS}) == len(RECORD_METRICS)


def test_no_line_is_wider_than_eighty_columns(measured):
    measured = dataclasses.replace(
        measured,
        flags=("outside_zoo", "resembles_public_table", "straddles:cka", "not_told:model_too_small"),
        settle=(
            "gradient_norm_squared_per_parameter is within its error of 1.5e-06; beyond it the verdict is healthy",
        ),
    )
    lines = [line for line in diagnosis_text(measured).splitlines() if "/" not in line or "  " in line]
    assert max(map(len, lines)) <= 80
    assert "┃" in diagnosis_text(measured), "there is room for the gauges"


def test_a_narrow_terminal_does_without_gauges(measured):
    text = diagnosis_text(measured, Look(width=60))
    assert "┄" not in text
    assert "threshold, ● here" not in text
    assert "≤ 0.249871" in text


def test_what_was_opened_and_what_it_cost_is_told(measured):
    text = diagnosis_text(measured)
    assert "  network  mlp?width=32 (the file's manifest)" in text
    assert "28 metrics measured in " in text
    assert "inside (distance 0.74 ≤ 1.1), most like digits_mlp" in text


def test_a_reason_is_told_once_with_the_metrics_it_explains():
    reason = "needs a sibling"
    names = ("cka", "cka_mixup", "disagreement_percent", "linear_barrier_percent", "parameter_distance")
    record = dataclasses.replace(cold().record, not_measured=tuple(NotMeasured(name, reason) for name in names))
    text = diagnosis_text(dataclasses.replace(cold(), record=record))
    assert "  - cka, cka mixup, disagreement %, linear barrier % and 1 more: needs a sibling" in text


def test_an_undetermined_verdict_says_what_leads_and_what_would_settle_it():
    values = {"train_error_over_chance": 0.97, "train_error_percent": 88.0, "log_weight_growth": 0.1}
    text = diagnosis_text(diagnose_record(small_diagnoser(), record_of(**values)))
    assert "  Verdict  ? undetermined  84% for the leading cause" in text
    assert "  Try      nothing yet: temperature too low leads, but see the notes" in text
    assert "  - to settle it: a sibling" in text
    assert "Expect" not in text


def test_colours_add_nothing_to_the_words(measured):
    coloured = diagnosis_text(measured, Look(colour=True))
    assert "\x1b[1;36m▼\x1b[0m" in coloured
    assert ANSI.sub("", coloured) == diagnosis_text(measured)


def test_without_unicode_everything_is_ascii(measured):
    text = diagnosis_text(measured, Look(unicode=False))
    assert text.isascii()
    assert "v temperature too low  79%, unconverged" in text
    assert "learning rate 0.0015 -> 0.015" in text
    assert re.search(r"0\.44 \+/- 0\.0063 +<= 2\.3527", text)
    assert max(map(len, text.splitlines())) <= 80


HOSTILE = "\x1b]0;owned\x07\x1b[2Jpaid\u202efdp.exe\u2066\nVerdict healthy\r\x9b31m\u2028"


@pytest.mark.parametrize("look", [PLAIN, Look(colour=True), Look(unicode=False)])
def test_names_from_files_cannot_repaint_the_terminal(look):
    known = record_of(log_weight_growth=0.5, train_error_percent=20.0)
    texts = ("path", "framework", "layout", "weights_from", "model", "model_from", "data", "data_from", "normalisation",
             "data_set", "fine_tuned_from")  # fmt: skip
    about = {**dict.fromkeys(texts, HOSTILE), "weights_there": [HOSTILE, "b"], "notes": [HOSTILE]}
    record = dataclasses.replace(
        known,
        checkpoint=about,
        recipe={"optimizer": HOSTILE, HOSTILE: 1, "learning_rate": 0.1},
        protocol={"digest": HOSTILE},
        not_measured=(NotMeasured("cka", HOSTILE),),
        flags=(HOSTILE, f"straddles:{HOSTILE}"),
    )
    diagnosis = diagnose_record(small_diagnoser(), record)
    diagnosis = dataclasses.replace(
        diagnosis,
        distance_from_zoo={**diagnosis.distance_from_zoo, "nearest": HOSTILE, "overall": 1.0, "limit": 2.0},
        diagnoser={**diagnosis.diagnoser, "name": HOSTILE},
        settle=(HOSTILE,),
    )
    for text in (diagnosis_text(diagnosis, look), comparison_text([diagnosis, diagnosis], look)):
        for line in ANSI.sub("", text).split("\n"):
            assert line.isprintable(), repr(line)
            assert not line.startswith("Verdict")
        ours = {"0", "1", "2", *INKS.values(), *(f"1;{ink}" for ink in INKS.values())}
        assert {code[2:-1] for code in ANSI.findall(text)} <= ours


def test_several_checkpoints_are_compared_in_a_table():
    hot = diagnose_record(small_diagnoser(), record_of(log_weight_growth=2.0, train_error_percent=20.0))
    lost = dataclasses.replace(hot, verdict="undetermined")
    text = comparison_text([cold(), hot, lost])
    assert text.splitlines() == [
        "3 checkpoints",
        "  a.pt  ▼ temperature too low   80%  learning rate 0.2 → 0.8 (or batch size 16 →",
        "                                     4), or train longer",
        "  a.pt  ▲ temperature too high  90%  learning rate 0.2 → 0.05 (or batch size 16",
        "                                     → 64)",
        "  a.pt  ? undetermined          90%  for temperature too high",
    ]


class _Stream(io.StringIO):
    def __init__(self, terminal, encoding):
        super().__init__()
        self.terminal, self._encoding = terminal, encoding

    encoding = property(lambda self: self._encoding)

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "0"}, False),
        (True, {"FORCE_COLOR": "0"}, False),
        (False, {"CLICOLOR_FORCE": "1"}, True),
        (True, {"CLICOLOR": "0"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"CLICOLOR": "0", "CLICOLOR_FORCE": "1"}, True),
    ],
)
def test_colours_follow_the_conventions(terminal, environment, coloured):
    assert look_of(_Stream(terminal, "utf-8"), environment).colour is coloured


@pytest.mark.parametrize(
    ("encoding", "unicode"), [("utf-8", True), ("ascii", False), ("latin-1", False), ("cp437", False), (None, False)]
)
def test_characters_follow_the_encoding(encoding, unicode):
    assert look_of(_Stream(False, encoding), {}).unicode is unicode


def test_a_log_file_is_eighty_columns_wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert look_of(_Stream(False, "utf-8"), {}).width == 80
    assert look_of(_Stream(True, "utf-8"), {}).width == 100
    monkeypatch.setenv("COLUMNS", "30")
    assert look_of(_Stream(True, "utf-8"), {}).width == 60


def test_every_verdict_has_a_mark_of_its_own_in_ascii_too():
    assert set(MARKS) == {*FAILURES, "undetermined"}
    ascii_marks = {Look(unicode=False).text(mark) for mark in MARKS.values()}
    assert len(ascii_marks) == len(MARKS)
    assert all(len(mark) == 1 for mark in ascii_marks)


def test_the_numbers_are_those_of_the_json(measured):
    values = json.loads(json.dumps(measured.to_dict()))
    text = diagnosis_text(measured)
    for step in values["path"]:
        assert f"{'≤' if step['side'] == 'left' else '>'} {step['threshold']:.6g}" in text
    for cause in values["ranking"]:
        assert f"{cause['probability']:.0%}" in text


def test_a_record_alone_tells_its_numbers_and_what_its_reader_must_know():
    record = dataclasses.replace(cold().record, flags=("batch_size_halved_to_16", "trace_negative"))
    lines = record_text(record).splitlines()
    assert lines[:3] == ["a.pt", "", "  Evidence alone"]
    assert "  train_error_percent            20" in lines
    assert "  - memory ran out: 16 samples at a time were measured; last digits may differ" in lines
    assert "  - the trace of the Hessian is negative: far from a minimum" in lines
    assert "Notes" not in record_text(dataclasses.replace(record, flags=()))


def test_numbers_of_an_earlier_run_are_told_as_such():
    kept = dataclasses.replace(cold().record, cost={"seconds": 1.0, "sample_gradients": 3.0, "cached": True})
    assert "kept from an earlier run (--no-cache measures again)" in " ".join(record_text(kept).split())
    assert "earlier run" not in record_text(cold().record)
