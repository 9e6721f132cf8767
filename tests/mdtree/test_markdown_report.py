"""Markdown for pull requests: the same content, short enough for a comment, and no name in it is mark-up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from reported import HOSTILE, JUDGE, told
from test_diagnoser import record_of, small_diagnoser

from mdtree.cut_points import format_threshold
from mdtree.diagnoser import diagnose_record
from mdtree.errors import InputError
from mdtree.markdown_report import LARGEST, code, markdown_report, prose
from mdtree.record import Metric, Record
from mdtree.report_page import checkpoint_page
from mdtree.report_words import visible
from mdtree.zoo import METRICS, read_zoo

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
WORD = "Wörtlein"
ALLOWED_TAGS = re.compile(r"</?(details|summary|code|sub)>")


def blocks(report: str) -> list[str]:
    return [token.type for token in READER.parse(report)]


def inline(report: str) -> set[str]:
    return {child.type for token in READER.parse(report) for child in token.children or ()}


def tags(report: str) -> list[str]:
    """Everything that reaches the reader of the report as HTML."""
    parts = [token.content for token in READER.parse(report) if token.type == "html_block"]
    parts += [c.content for t in READER.parse(report) for c in t.children or () if c.type == "html_inline"]
    return re.findall(r"<[^>]*>?", "".join(parts))


def seen(report: str) -> list[str]:
    """What a reader sees in every paragraph, heading and cell of a table."""
    return [
        "".join(child.content for child in token.children or () if child.type != "html_inline").strip()
        for token in READER.parse(report)
        if token.type == "inline"
    ]


def test_the_verdict_the_change_and_the_path():
    small = small_diagnoser()
    report = markdown_report(
        [diagnose_record(small, record_of(log_weight_growth=0.5, train_error_percent=20.0))], small
    )
    lines = report.splitlines()
    assert lines[0] == "## temperature too low (80%, unconverged)"
    assert lines[2] == "`a.pt`"
    assert lines[4] == "- **Try:** learning rate 0.2 → 0.8 (or batch size 16 → 4), or train longer"
    assert lines[5] == "- **Expect:** +5.0 ± 0.5 points of test accuracy"
    assert "| `log_weight_growth` | 0.5 | ≤ 1 | as 50% of the zoo here |" in lines
    assert "| `train_error_percent` | 20 | &gt; 10 | as 25% of the zoo here |" in lines


def test_tables_have_as_many_cells_in_every_line():
    for report in (markdown_report([told()], JUDGE), markdown_report([told("a"), told("b")], JUDGE)):
        for table in re.findall(r"(?:^\|.*\n)+", report, re.MULTILINE):
            assert len({line.count(" | ") for line in table.splitlines()}) == 1
        assert blocks(report).count("table_open") == len(re.findall(r"^\| :?--", report, re.MULTILINE))


@pytest.mark.parametrize("text", HOSTILE)
def test_text_out_of_files_stays_text(text: str):
    assert_harmless(text)


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=40))
def test_any_text_stays_text(text: str):
    assert_harmless(text)


def assert_harmless(text: str) -> None:
    several = markdown_report([told(text), told("other")], JUDGE)
    harmless = markdown_report([told(WORD if visible(text).strip() else text), told("other")], JUDGE)
    assert blocks(several) == blocks(harmless)
    for before, after in zip(seen(harmless), seen(several), strict=True):
        around = before.split(WORD)
        assert after.startswith(around[0])
        assert after.endswith(around[-1])
        assert len(around) > 1 or after == before
        if before == WORD and len(text) < 30 and not re.search(r"[/\\]", visible(text)):
            assert after == visible(text).strip()
    assert inline(several) <= {"text", "code_inline", "html_inline", "strong_open", "strong_close", "softbreak"}
    assert all(ALLOWED_TAGS.fullmatch(tag) for tag in tags(several))
    assert all(c.isprintable() or c == "\n" for c in several)


@pytest.mark.parametrize("text", ["@team", "#12", "https://example.org", "www.example.org", "a|b", "$x$", "<b>"])
def test_what_github_would_link_or_notify_is_code(text: str):
    assert re.fullmatch(r"`.*`|<code>.*</code>", prose(f"see {text}"))
    assert re.fullmatch(r"`.*`|<code>.*</code>", code(text))


def test_a_sentence_of_our_own_is_no_code():
    assert prose("learning rate 0.3 → 0.075 (or batch size 16 → 64)") == (
        "learning rate 0.3 → 0.075 (or batch size 16 → 64)"
    )
    assert prose("test_error_percent is within") == r"test\_error\_percent is within"


@pytest.mark.parametrize(("count", "said"), [(1, ""), (5, "<details>"), (60, ""), (1000, "more are left out here")])
def test_a_report_fits_into_a_comment(count: int, said: str):
    report = markdown_report([told("networks/run-" + "x" * 60)] * count, JUDGE)
    assert len(report) < LARGEST
    assert said in report


def test_a_report_of_long_names_fits_as_well():
    assert len(markdown_report([told("|" * 3000)] * 40, JUDGE)) < LARGEST


def test_a_report_needs_a_diagnosis():
    with pytest.raises(InputError, match="no diagnosis"):
        markdown_report([], JUDGE)


def test_page_and_markdown_tell_the_leaf_and_the_thresholds_of_the_walk():
    """For networks of a sample table: verdict, splits and sides are those of the diagnosis, thresholds unrounded."""
    table = Path(__file__).parents[2] / "zoo_samples" / "digits_mlp.csv"
    rows = read_zoo(table).sample(60, random_state=0)
    for row in rows.to_dict("records"):
        metrics = {name: Metric(row[name], 0.01 * abs(row[name]), 100) for name in METRICS if row[name] == row[name]}
        diagnosis = diagnose_record(JUDGE, Record({"path": "row.pt"}, {}, {}, {}, metrics))
        page = checkpoint_page(diagnosis, JUDGE)
        assert (page.verdict, page.causes[0].failure) == (diagnosis.verdict, diagnosis.ranking[0].failure)
        report = markdown_report([diagnosis], JUDGE)
        assert report.startswith(f"## {diagnosis.verdict.replace('_', ' ')} (")
        shown = [step for asked in page.asked for step in asked.steps]
        for step, told_step in zip(diagnosis.path, shown, strict=True):
            assert float(told_step.threshold) == step.threshold
            if step.value is not None:
                went_left = float(told_step.value) <= float(told_step.threshold)
                assert went_left == (step.side == "left") == (told_step.relation == "≤")
            relation = {"left": "≤", "right": "&gt;", "both": "?"}[step.side]
            assert f"| {relation} {format_threshold(step.threshold)} |" in report
