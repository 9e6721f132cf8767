"""The HTML page: what it says, what it lets nobody else say, and how it behaves in a browser."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import DESKTOP, PHONE, Browser, chromium, running_browser
from hypothesis import given, settings
from hypothesis import strategies as st
from reported import HOSTILE, JUDGE, full_record, told
from test_diagnoser import record_of, small_diagnoser

from mdtree.cut_points import format_threshold
from mdtree.diagnoser import diagnose_record
from mdtree.errors import InputError
from mdtree.html_report import LARGEST, html_report
from mdtree.markdown_report import markdown_report
from mdtree.nodes import Step
from mdtree.record import NotMeasured
from mdtree.report_page import checkpoint_page
from mdtree.report_words import beside, compared, visible

NO_BROWSER = "Chromium is not installed"


class Skeleton(HTMLParser):
    """Tags with their attributes' names, places for line breaks left out, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, ...]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "wbr":
            self.tags.append((tag, *(name for name, _ in attrs)))
        self.text += "" if tag in ("wbr", "bdi", "code", "span") else " "

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}",))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(*diagnoses: object) -> str:
    return html_report(diagnoses, JUDGE, pictures=False)  # type: ignore[arg-type]


def test_the_page_says_what_the_diagnosis_holds():
    small = small_diagnoser()
    cold = diagnose_record(small, record_of(log_weight_growth=0.5, train_error_percent=20.0))
    text = " ".join(Skeleton(html_report([cold], small, pictures=False)).text.split())
    assert "Verdict temperature too low 80%, unconverged Try learning rate 0.2 → 0.8 (or batch size 16 → 4)" in text
    assert "Expect +5.0 ± 0.5 points of test accuracy" in text
    assert "log_weight_growth 0.5 ≤ 1" in text
    assert "train_error_percent 20 > 10" in text
    assert "as 25% of the zoo here" in text
    assert "Nothing is missing." in text


def test_every_split_stands_on_the_page_with_the_threshold_that_decided():
    diagnosis = told()
    page = checkpoint_page(diagnosis, JUDGE)
    shown = [step for asked in page.asked for step in asked.steps]
    assert [(s.metric, s.threshold) for s in shown] == [
        (s.feature, format_threshold(s.threshold)) for s in diagnosis.path
    ]
    text = re.sub(r"\s+", " ", Skeleton(page_of(diagnosis)).text)
    for step in shown:
        assert f"{step.metric} {step.value} {step.error} {step.relation} {step.threshold}" in text


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_reads_on_its_own_side_of_the_threshold(value: float, threshold: float):
    assert (float(beside(value, threshold)) <= threshold) == (value <= threshold)


def test_a_value_that_nearly_meets_its_threshold_gets_the_digits_that_tell_them_apart():
    assert beside(1.0000001, 1.0) == "1.0000001"
    assert beside(1.0000001, 2.0) == "1"


def test_the_side_that_was_taken_is_shown_whatever_the_numbers_look_like_when_rounded():
    step = Step("cka", 0.1 + 0.2, None, 0.3, "right", 0.5, False)
    assert compared(step) == ("0.30000000000000004", "", ">", "0.3")
    assert compared(dataclasses.replace(step, value=0.3, side="left")) == ("0.3", "", "≤", "0.3")
    assert compared(dataclasses.replace(step, value=None, side="both")) == ("not measured", "", "?", "0.3")


def test_answers_lead_to_the_verdict():
    page = checkpoint_page(told(), JUDGE)
    assert page.asked[0].question == "healthy?"
    assert {asked.answer for asked in page.asked} <= {"yes", "no"}


def test_where_the_tree_ends_is_said_if_the_verdict_is_another():
    diagnosis = dataclasses.replace(told(), verdict="undetermined", leaves={"healthy": 0.75, "model_too_small": 0.25})
    text = " ".join(Skeleton(page_of(diagnosis)).text.split())
    assert "The tree ends at: healthy 75%, model too small 25%." in text
    assert "The tree ends at" not in page_of(dataclasses.replace(diagnosis, verdict="healthy", leaves={"healthy": 1.0}))


def test_what_was_not_measured_stands_with_its_reason():
    record = full_record()
    metrics = {name: metric for name, metric in record.metrics.items() if name != "cka"}
    diagnosis = diagnose_record(JUDGE, dataclasses.replace(record, metrics=metrics))
    text = " ".join(Skeleton(page_of(diagnosis)).text.split())
    assert "linear_barrier_percent no sibling" in text
    if any(step.feature == "cka" for step in diagnosis.path):
        assert "cka not measured" in text


def test_flags_saved_with_a_record_are_told_once():
    diagnosis = told()
    saved = dataclasses.replace(diagnosis.record, flags=(*diagnosis.record.flags, *diagnosis.flags))
    notes = checkpoint_page(dataclasses.replace(diagnosis, record=saved), JUDGE).notes
    assert len(notes) == len(set(notes))


def test_the_json_on_the_page_is_the_diagnosis():
    diagnosis = told(HOSTILE[5] + HOSTILE[6] + HOSTILE[12])
    shown = re.search(r"<pre[^>]*>(.*?)</pre>", page_of(diagnosis), re.DOTALL)
    assert shown is not None
    assert json.loads(Skeleton(shown[0]).text) == json.loads(json.dumps(diagnosis.to_dict()))
    assert all(c.isprintable() or c == "\n" for c in shown[1])


@pytest.mark.parametrize("text", HOSTILE)
def test_text_out_of_files_stays_text(text: str):
    """Tags and attributes are those of a harmless page; what cannot be seen stands as its escape."""
    assert_harmless(text)


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=40))
def test_any_text_stays_text(text: str):
    assert_harmless(text)


def assert_harmless(text: str) -> None:
    page = page_of(told(text), told("other"))
    harmless = Skeleton(page_of(told("word" if visible(text).strip() else text), told("other")))
    found = Skeleton(page)
    assert found.tags == harmless.tags
    assert visible(text) in found.text
    assert all(c.isprintable() or c == "\n" for c in page)
    page.encode()


def test_nothing_may_be_loaded_or_run_but_the_pages_own_script():
    page = page_of(told())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;") or policy[1].startswith("default-src 'none'")
    assert "unsafe-inline" not in policy[1].split("script-src")[1]
    assert not re.search(r"""(src|href|action)=["'](?!#)""", page)


def test_several_checkpoints_are_compared_and_each_has_its_anchor():
    page = page_of(told("a.pt", log_weight_growth=0.1), told("b.pt", log_weight_growth=3.0))
    assert "2 checkpoints compared" in page
    for number in (1, 2):
        assert page.count(f'id="checkpoint-{number}"') == 1
        assert f'href="#checkpoint-{number}"' in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_a_page_of_very_many_checkpoints_stays_small_and_says_what_it_leaves_out():
    diagnosis = told()
    for count, said in ((30, ""), (60, "pictures and JSON"), (300, "only the verdicts are shown")):
        page = page_of(*[diagnosis] * count)
        assert len(page.encode()) < LARGEST
        assert said in page
        assert page.count("<article") == count


@pytest.mark.parametrize("odd", [5, "text", {"a": [1]}, [None], None, float("nan"), 10**400])
def test_a_record_with_something_else_where_it_belongs_is_shown_all_the_same(odd: object):
    record = full_record()
    damaged = dataclasses.replace(
        record,
        checkpoint=dict.fromkeys(record.checkpoint, odd),
        protocol=dict.fromkeys(record.protocol, odd),
        execution=dict.fromkeys(record.execution, odd),
        recipe={"optimizer": odd},
        cost=dict.fromkeys(record.cost, odd),
        layers=(dict.fromkeys(record.layers[0], odd), {}),
        flags=(odd,),
        not_measured=(NotMeasured(odd, odd),),
    )
    diagnosis = dataclasses.replace(told(), record=damaged)
    assert "temperature" in page_of(diagnosis, told())
    assert "temperature" in markdown_report([diagnosis, told()], JUDGE)


def test_a_page_needs_a_diagnosis():
    with pytest.raises(InputError, match="no diagnosis"):
        html_report([], JUDGE)


def test_a_picture_that_cannot_be_drawn_is_replaced_by_the_reason():
    record = dataclasses.replace(full_record(), series={"curve": {"t": "<b>", "error_percent": None}})
    page = html_report([diagnose_record(JUDGE, record)], JUDGE)
    assert "Not drawn: the record holds no spectral density." in page
    assert page.count("Not drawn") == 2


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real one; skipped for who has none, a failure on continuous integration."""
    if chromium() is None or importlib.util.find_spec("playwright") is None:
        if os.environ.get("CI"):
            pytest.fail(f"{NO_BROWSER}: continuous integration looks at the pages (tests/system-packages.txt)")
        pytest.skip(NO_BROWSER)
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages with all their pictures: one checkpoint, three compared, and one whose every name is hostile."""
    hostile = " ".join(text for text in HOSTILE if len(text) < 500)
    told_of = {
        "one": [told("networks/first run.pt")],
        "several": [told("a.pt", log_weight_growth=0.1), told("b.pt", test_error_percent=80.0)],
        "hostile": [told(hostile)],
    }
    folder = tmp_path_factory.mktemp("pages")
    for name, diagnoses in told_of.items():
        (folder / f"{name}.html").write_text(html_report(diagnoses, JUDGE), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in told_of}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "dark"),
    [
        ("one", DESKTOP, False),
        ("one", DESKTOP, True),
        ("one", PHONE, False),
        ("several", DESKTOP, False),
        ("several", PHONE, True),
        ("hostile", PHONE, False),
    ],
)
def test_a_browser_shows_the_page_to_everybody(
    browser: Browser, pages: dict[str, Path], name: str, size: tuple[int, int], dark: bool
):
    """No complaint of axe with everything unfolded, none on the console, no request, nothing wider than the window."""
    opened = browser.open(pages[name], size, dark=dark)
    opened.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert opened.accessibility() == []
    assert opened.complaints == []
    assert opened.requests == []
    assert opened.overflow() <= 0
    schemes = {part: opened.page.locator(f".only-{part}").first.is_visible() for part in ("light", "dark")}
    assert schemes == {"light": not dark, "dark": dark}
    opened.page.context.close()


@pytest.mark.slow
def test_the_page_works_without_scripts(browser: Browser, pages: dict[str, Path]):
    page = browser.open(pages["one"], scripts=False).page
    assert page.locator(".answer strong").inner_text() != ""
    page.locator("details.json > summary").click()
    assert page.locator("details.json pre").is_visible()
    assert not page.locator("button.copy").is_visible()


@pytest.mark.slow
def test_the_json_is_copied_with_one_click(browser: Browser, pages: dict[str, Path]):
    page = browser.open(pages["one"]).page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("details.json > summary").click()
    page.locator("button.copy").click()
    page.get_by_text("Copied.").wait_for()
    assert json.loads(page.evaluate("navigator.clipboard.readText()"))["verdict"] == told().verdict


@pytest.mark.slow
def test_paper_is_white_and_unfolded(browser: Browser, pages: dict[str, Path]):
    page = browser.open(pages["one"], dark=True).page
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.locator(".only-light").first.is_visible()
    assert page.get_by_text("norm of the gradient").is_visible()
    assert not page.locator("details.json pre").is_visible()
