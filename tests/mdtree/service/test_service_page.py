"""The page of the service in a browser: a real server, a real worker, what people do there and what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import DESKTOP, PHONE, Browser
from reported import HOSTILE
from service_started import ALICE, FILE_BYTES, StartedService
from service_visitor import Door, Visitor, open_service, pair, post_record, sample, slow_work, some_browser

from mdtree.report_words import visible

pytestmark = pytest.mark.slow

TWICE_AS_LARGE = (640, 450)
"""What is left of a desktop's window at 200 % zoom."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with some_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def door(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_service(tmp_path_factory.mktemp("page")) as address:
        yield Door(browser, address)


@pytest.fixture(scope="module")
def measured(door: Door) -> dict[str, Any]:
    """The diagnosis of a checkpoint with its sibling, measured over the page: its job stays in the list."""
    visitor = door.enter()
    job = visitor.send(pair("temperature_too_low-1"))
    visitor.verdict()
    visitor.page.context.close()
    diagnosis: dict[str, Any] = visitor.ask(f"/v1/jobs/{job}/result")
    return {"job": job, "diagnosis": diagnosis}


@pytest.fixture
def visitor(door: Door) -> Iterator[Visitor]:
    """Somebody who has just come; whatever a test does, the page must not complain and ask nobody else."""
    visitor = door.enter()
    yield visitor
    assert visitor.complaints() == []
    assert visitor.strangers() == []
    visitor.page.context.close()


def test_a_checkpoint_and_its_sibling_are_sent_followed_and_diagnosed(visitor: Visitor):
    page = visitor.page
    page.locator("#precision").evaluate("field => { field.closest('details').open = true; field.value = '0.01'; }")
    page.locator("#announcer").evaluate(
        "said => { window.told = []; new MutationObserver(() => told.push(said.textContent))"
        ".observe(said, { childList: true }); }"
    )
    visitor.choose(pair("healthy-1"))
    assert visitor.roles() == {"healthy-1.pt": "checkpoint", "healthy-1.sibling.pt": "sibling"}
    job = visitor.send()
    page.locator("#card-name:focus").wait_for()
    verdict = visitor.verdict()
    told = visitor.ask(f"/v1/jobs/{job}")
    assert told["request"]["precision"] == 0.01
    assert len(told["request"]["siblings"]) == 1
    assert verdict == told["summary"]["verdict"].replace("_", " ")
    card = visitor.whole_card().inner_text()
    assert told["summary"]["what_to_try"] in card
    assert f"{told['summary']['confidence']:.0%}" in card
    assert all(note in card for note in told["summary"]["notes"])
    said = page.evaluate("told")
    assert said[0] == "Sent."
    assert said[-1] == f"healthy-1.pt: {verdict} {told['summary']['confidence']:.0%}"
    assert visitor.roles() == {}


def test_a_running_job_shows_what_it_does_and_can_be_cancelled(visitor: Visitor):
    page = visitor.page
    files, network = slow_work()
    visitor.choose(files)
    assert list(visitor.roles().values()) == ["checkpoint", "sibling", "data"]
    page.get_by_label("Network", exact=True).fill(network)
    page.get_by_text("More settings").click()
    page.get_by_label("The data are right").check()
    first = visitor.send()
    request = visitor.ask(f"/v1/jobs/{first}")["request"]
    assert (request["architecture"], request["data_checked"]) == (network, True)
    assert request["data"]["file"] is not None
    second = visitor.send(pair("model_too_small-1"))
    card = page.locator("#card")
    card.get_by_text("waiting, the next").wait_for()
    row = page.locator("#list > li").filter(has=page.locator(f"a[href='#job={first}']"))
    row.get_by_text(re.compile("^measuring: .")).wait_for()
    assert row.get_by_role("progressbar").is_visible()
    card.get_by_role("button", name="Cancel").click()
    card.get_by_text("It was cancelled before it was done.").wait_for()
    assert visitor.ask(f"/v1/jobs/{second}")["state"] == "cancelled"
    row.get_by_role("button", name="Cancel").click()
    row.get_by_text("cancelled").wait_for()
    assert visitor.ask(f"/v1/jobs/{first}")["state"] == "cancelled"


ROLES = {
    "run7.pt": "checkpoint",
    "a.pt b.pt c.safetensors": "checkpoint sibling sibling",
    "a.sibling.pt a.pt": "sibling checkpoint",
    "a.sibling.pt b.sibling.pt": "checkpoint sibling",
    "digits.npz a.ckpt more.npz": "data checkpoint none",
    "test_data.safetensors model.safetensors": "data checkpoint",
    "model.init.pt model.pt": "init checkpoint",
    "model_initialised.pt": "checkpoint",
    "record.json other.JSON": "record record",
}


def test_roles_are_guessed_from_names(visitor: Visitor):
    guess = "async (names) => (await import('/static/files.js')).guessed(names)"
    guessed = {names: " ".join(visitor.page.evaluate(guess, names.split())) for names in ROLES}
    assert guessed == ROLES
    guess = "async () => (await import('/static/files.js')).guessed(['b.pt', 'c.npz'], ['checkpoint', 'data'])"
    assert visitor.page.evaluate(guess) == ["sibling", "none"]


def test_text_is_made_visible_as_in_the_reports(visitor: Visitor):
    shown = (
        "async (texts) => texts.map(((words) => (one) => words.visible(one, 240))(await import('/static/words.js')))"
    )
    texts = [text for text in HOSTILE if "\ud800" not in text]  # half a character cannot be sent to a browser
    assert visitor.page.evaluate(shown, texts) == [visible(text, 240) for text in texts]


def test_sending_is_shown_and_can_be_stopped(visitor: Visitor):
    """On a slow line; what had left of the file is of no use to anybody and is gone."""
    page = visitor.page
    jobs = len(visitor.ask("/v1/jobs")["jobs"])
    files = visitor.ask("/v1/files")
    line = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", line)
    visitor.choose([("large.pt", bytes(2_000_000))])
    page.get_by_role("button", name="Diagnose").click()
    sent = page.get_by_role("progressbar", name="Sending large.pt")
    sent.and_(page.locator("progress[value]:not([value='0'])")).wait_for()
    assert page.evaluate("document.activeElement.id") == "stop"
    page.keyboard.press("Enter")
    page.get_by_text("Stopped.").wait_for()
    assert page.evaluate("document.activeElement.id") == "submit"
    assert visitor.roles() == {"large.pt": "checkpoint"}
    assert visitor.ask("/v1/files") == files
    assert len(visitor.ask("/v1/jobs")["jobs"]) == jobs


def test_dropped_files_get_roles_that_can_be_changed(visitor: Visitor):
    visitor.drop([sample("model_too_small-1.sibling"), sample("model_too_small-1"), ("digits.npz", b"no archive")])
    page = visitor.page
    assert list(visitor.roles().values()) == ["sibling", "checkpoint", "data"]
    assert page.get_by_label("Data", exact=True).is_disabled()
    page.get_by_label("Role of digits.npz").select_option("leave out")
    page.get_by_label("Role of model_too_small-1.sibling.pt").select_option("checkpoint")
    assert list(visitor.roles().values()) == ["checkpoint", "sibling", "none"]
    page.get_by_role("button", name="Remove model_too_small-1.pt").click()
    job = visitor.send()
    assert visitor.verdict() != "No verdict"
    told = visitor.ask(f"/v1/jobs/{job}")
    assert told["name"] == "model_too_small-1.sibling.pt"
    assert told["request"]["siblings"] == []
    assert told["request"]["data"] is None


def test_the_report_opens_and_the_json_is_that_of_the_service(
    door: Door, visitor: Visitor, measured: dict[str, Any], tmp_path: Path
):
    visitor.page.goto(f"{door.address}/#job={measured['job']}")
    card = visitor.whole_card()
    report = visitor.open_in_a_new_page(card.get_by_role("link", name="Open report"))
    assert report.page.locator(".answer strong").first.inner_text() == visitor.verdict()
    assert report.complaints == []
    with visitor.page.expect_download() as coming:
        card.get_by_role("button", name="Download JSON").click()
    assert coming.value.suggested_filename == "temperature_too_low-1.pt.json"
    coming.value.save_as(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text()) == measured["diagnosis"]


def test_a_record_is_answered_at_once(visitor: Visitor, measured: dict[str, Any]):
    record = json.dumps(measured["diagnosis"]).encode()
    job = visitor.send([("record.json", record)])
    assert visitor.verdict() == "temperature too low"
    assert visitor.ask(f"/v1/jobs/{job}")["kind"] == "record"
    assert visitor.page.locator("#card").get_by_text("A record, sent").is_visible()


def test_what_is_refused_is_said_beside_it(visitor: Visitor):
    page = visitor.page
    page.get_by_role("button", name="Diagnose").click()
    assert page.locator("#send-error").inner_text() == "Choose a checkpoint or a record first."
    visitor.choose([("empty.pt", b""), ("record.json", b"{}")])
    assert page.locator("#chosen").get_by_text("The file is empty.").is_visible()
    page.get_by_role("button", name="Remove empty.pt").click()
    assert page.evaluate("document.activeElement.ariaLabel") == "Role of record.json"
    page.get_by_role("button", name="Diagnose").click()
    page.locator("#chosen").get_by_text("the record has no schema_version").wait_for()
    page.get_by_role("button", name="Remove record.json").click()
    visitor.choose([sample("healthy-1")])
    network = page.get_by_label("Network", exact=True)
    network.fill("os:system")
    network.press("Enter")
    page.locator("#network-error").get_by_text("no network named os:system is registered here").wait_for()
    assert page.evaluate("document.activeElement.id") == "network"
    assert network.get_attribute("aria-invalid") is not None
    visitor.assert_well_behaved()
    network.fill("mlp?width=56")
    job = visitor.send()
    assert visitor.verdict() != "No verdict"
    assert visitor.ask(f"/v1/jobs/{job}")["request"]["architecture"] == "mlp?width=56"


def test_a_file_that_is_no_checkpoint_fails_with_the_reason(visitor: Visitor):
    visitor.send([("holiday.pt", b"\x89PNG\r\n\x1a\n" + bytes(100))])
    visitor.page.locator("#card").get_by_text("holiday.pt is a picture").wait_for()
    assert visitor.verdict() == "No verdict"
    visitor.assert_well_behaved()


def test_jobs_are_compared_side_by_side(visitor: Visitor, door: Door, measured: dict[str, Any]):
    diagnosis = measured["diagnosis"]
    names = ["one.pt", "other.pt"]
    for name in names:
        post_record(door.address, diagnosis, name)
    visitor.page.reload()
    table = visitor.compare(*names)
    assert table.locator("thead th").all_inner_texts() == ["1 one.pt", "2 other.pt"]
    row = table.get_by_role("row", name=re.compile("^test_error_percent"))
    value = f"{diagnosis['metrics']['test_error_percent']['value']:.6g}"
    assert [text.split()[0] for text in row.locator("td").all_inner_texts()] == [value, value]
    assert sorted(visitor.page.locator(".plane .job-name").all_text_contents()) == ["1", "2"]
    report = visitor.open_in_a_new_page(visitor.page.get_by_role("link", name="Open comparison report"))
    assert "2 checkpoints compared" in report.page.locator("h1").inner_text()
    assert report.complaints == []
    visitor.page.get_by_role("button", name="Choose none").click()
    assert visitor.page.locator("#comparison").is_hidden()


def test_the_list_is_filtered_and_continued(visitor: Visitor, door: Door, measured: dict[str, Any]):
    ids = [post_record(door.address, measured["diagnosis"], f"many-{number:02}.pt") for number in range(52)]
    page = visitor.page
    page.get_by_label("Name").fill("many-")
    rows = page.locator("#list > li")
    page.get_by_role("link", name="many-51.pt").wait_for()
    assert rows.count() == 25
    page.get_by_role("button", name="Load more").click()
    page.get_by_role("link", name="many-02.pt").wait_for()
    assert rows.count() == 50
    assert page.evaluate("document.activeElement.textContent") == "many-26.pt"
    page.get_by_role("button", name="Load more").click()
    page.get_by_role("link", name="many-00.pt").wait_for()
    assert rows.count() == 52
    assert page.locator("#more").is_hidden()
    page.get_by_label("Name").fill("many-07")
    page.get_by_role("link", name="many-08.pt").wait_for(state="detached")
    assert rows.count() == 1
    page.get_by_label("Verdict").select_option("healthy")
    page.get_by_text("No job is like that.").wait_for()
    page.get_by_label("Verdict").select_option("temperature too low")
    page.get_by_role("link", name="many-07.pt").wait_for()
    page.get_by_label("State").select_option("failed")
    page.get_by_text("No job is like that.").wait_for()
    page.goto(f"{door.address}/#job={ids[0]}")
    page.reload()
    assert page.locator("#card-name").inner_text() == "many-00.pt"


def test_a_job_is_deleted_after_a_question(visitor: Visitor, door: Door, measured: dict[str, Any]):
    job = post_record(door.address, measured["diagnosis"], "to-be-deleted.pt")
    page = visitor.page
    page.goto(f"{door.address}/#job={job}")
    page.reload()
    page.get_by_role("link", name="to-be-deleted.pt").first.wait_for()
    delete = page.locator("#card").get_by_role("button", name="Delete")
    delete.click()
    dialog = page.get_by_role("dialog")
    assert "to-be-deleted.pt" in dialog.inner_text()
    assert visitor.opened.accessibility() == []
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Delete"
    assert visitor.ask(f"/v1/jobs/{job}")["id"] == job
    delete.click()
    dialog.get_by_role("button", name="Delete").click()
    page.locator("#card").wait_for(state="hidden")
    assert page.get_by_role("link", name="to-be-deleted.pt").count() == 0
    assert page.evaluate("document.activeElement.id") == "jobs"
    page.goto(f"{door.address}/#job={job}")
    page.locator("#card").get_by_text(f"there is no job {job}").wait_for()


def test_the_keyboard_is_enough(visitor: Visitor):
    """From the first key to the open report: the focus is always seen, and nothing needs a pointer."""
    page = visitor.page
    choosers: list[Any] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))  # playwright takes no built-in
    page.locator("#content").wait_for()

    def tab_to(text: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "(() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return [e.ariaLabel ?? e.innerText ?? '', s.outlineStyle, parseFloat(s.outlineWidth)]; })()"
            )
            assert focused[1:] == ["solid", 3] or "Skip" in focused[0], focused
            if text in focused[0]:
                return
        pytest.fail(f"the focus never came to {text}")

    tab_to("choose files")
    page.keyboard.press("Enter")
    for _ in range(500):
        if choosers:
            break
        page.wait_for_timeout(20)
    choosers[0].set_files(
        [{"name": name, "mimeType": "", "buffer": body} for name, body in pair("temperature_too_high-1")]
    )
    tab_to("Role of temperature_too_high-1.sibling.pt")
    tab_to("Diagnose")
    page.keyboard.press("Enter")
    assert visitor.verdict() == "temperature too high"
    visitor.whole_card()
    assert page.evaluate("document.activeElement.id") == "card-name"
    tab_to("Open report")
    with page.context.expect_page() as coming:
        page.keyboard.press("Enter")
    assert "temperature too high" in coming.value.title()


def test_hostile_text_stays_text(visitor: Visitor, door: Door, measured: dict[str, Any]):
    """Names on the visitor's disk, and everything a record may say, are shown as what they are."""
    page = visitor.page
    names = ["<img src=x onerror=alert(1)>.pt", "\u202egpj.exe.pt", f"{'x' * 300}.json"]
    visitor.choose([(name, b"1") for name in names])
    assert list(visitor.roles()) == [visible(name, 80) for name in names]
    visitor.assert_well_behaved()
    text = "".join(HOSTILE[:6])
    hostile = {**measured["diagnosis"], "recipe": {text: text}, "flags": [text]}
    hostile["checkpoint"] = {**hostile["checkpoint"], "model": text, "siblings": [text]}
    job = post_record(door.address, hostile, text)
    page.goto(f"{door.address}/#job={job}")
    card = visitor.whole_card()
    card.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    assert visible(text, 240) in card.locator("dd").all_inner_texts()
    assert page.locator("img, script:not([src])").count() == 0
    visitor.assert_well_behaved()


@pytest.mark.parametrize(
    ("size", "dark"),
    [(DESKTOP, False), (DESKTOP, True), (PHONE, True), (TWICE_AS_LARGE, False)],
)
def test_everybody_can_read_it(door: Door, measured: dict[str, Any], size: tuple[int, int], dark: bool):
    """A card, a comparison and the map with everything unfolded, on a desk, on a phone, by night and enlarged."""
    for name in ("first.pt", "second.pt"):
        post_record(door.address, measured["diagnosis"], name)
    visitor = door.enter(f"/#job={measured['job']}", size, dark=dark)
    visitor.whole_card()
    visitor.compare("first.pt", "second.pt")
    visitor.page.locator(".plane").wait_for()
    visitor.page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    visitor.assert_well_behaved()
    shown = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert shown == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
    visitor.page.context.close()


def test_who_is_away_is_said_and_waited_for(visitor: Visitor):
    page = visitor.page
    page.get_by_label("Name").wait_for()
    page.context.set_offline(True)
    page.get_by_label("State").select_option("done")
    page.get_by_text("The server does not answer.").wait_for()
    page.context.set_offline(False)
    page.get_by_text("The server does not answer.").wait_for(state="hidden")
    visitor.opened.complaints.clear()  # the browser's own about the line


def test_a_service_with_tokens_asks_for_one(browser: Browser, abused_service: StartedService):
    door = Door(browser, abused_service.process.address)
    visitor = door.enter()
    page = visitor.page
    field = page.get_by_label("Token", exact=True)
    field.wait_for()
    assert page.locator("#content").is_hidden()
    visitor.assert_well_behaved()
    assert page.locator("#token-error").is_hidden()
    field.fill("not-a-token")
    field.press("Enter")
    page.get_by_text("The server does not know this token.").wait_for()
    field.fill(ALICE)
    field.press("Enter")
    page.get_by_text("No job yet.").or_(page.locator("#list > li").first).first.wait_for()
    visitor.choose([("large.pt", bytes(FILE_BYTES + 1))])
    assert page.get_by_text("this server takes files of at most 1.0 MiB").is_visible()
    page.evaluate("async () => (await import('/static/files.js')).setLimits(null)")
    page.get_by_role("button", name="Diagnose").click()
    page.locator("#chosen").get_by_text(f"expected at most {FILE_BYTES:,} bytes").wait_for()
    page.reload()
    page.get_by_role("button", name="Forget the token").click()
    field.wait_for()
    assert visitor.complaints() == []
    page.context.close()
