"""Pages: as the command line writes them, drawn beside the server, opened by token or by a link that ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache

import pytest
from reported import HOSTILE, JUDGE, full_record
from service_http import Service, record_body, refused, service_of

from mdtree.diagnoser import diagnose_record
from mdtree.diagnosis import Diagnosis
from mdtree.html_report import html_report
from mdtree.record import record_from_dict
from mdtree.service.drawing.stored_diagnosis import diagnosis_of
from mdtree.service.settings import Limits
from mdtree.service.storage.store import Store

ID = "0" * 32


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests of this file: its process that draws takes a second to start."""
    folder = tmp_path_factory.mktemp("service")
    store = Store(f"sqlite:///{folder / 'service.sqlite'}")
    with service_of(store, folder / "data", limits=Limits(disk_floor_bytes=0)) as service:
        yield service
    store.close()


@pytest.fixture(scope="module")
def run7(service: Service) -> str:
    """The id of a job."""
    return service.record(text="run7.pt")


@pytest.fixture(scope="module")
def run8(service: Service) -> str:
    """The id of another job."""
    return service.record(text="run8.pt")


def diagnosed(text: str) -> Diagnosis:
    """What the library says of a record."""
    return diagnose_record(JUDGE, record_from_dict(json.loads(record_body(text))))


@cache
def page_of(*texts: str) -> str:
    """The page that the library makes of these records."""
    return html_report([diagnosed(text) for text in texts], JUDGE)


@pytest.mark.parametrize("text", ["run7.pt", *HOSTILE[:3]])
def test_a_stored_diagnosis_is_read_as_it_was_written(text: str):
    written = diagnosed(text).to_json()
    assert diagnosis_of(written).to_json() == written


@pytest.mark.slow
def test_a_report_is_the_librarys_page(service: Service, run7: str):
    answer = service.alice.get(f"/v1/jobs/{run7}/report")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Disposition"] == 'inline; filename="run7.pt.html"'
    assert answer.text == page_of("run7.pt")


def test_a_report_can_run_nothing_of_its_own_and_is_not_of_this_site(service: Service, run7: str):
    policy = service.alice.get(f"/v1/jobs/{run7}/report").headers["Content-Security-Policy"]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    assert rules["default-src"] == ["'none'"]
    assert rules["frame-ancestors"] == ["'none'"]
    assert "allow-same-origin" not in rules["sandbox"]
    (script,) = rules["script-src"]
    assert script.startswith("'sha256-")


def test_a_report_is_drawn_once_and_goes_with_its_job(service: Service, run7: str):
    id = service.record()
    kept = service.folder / "reports" / f"{id}.html"
    page = service.alice.get(f"/v1/jobs/{run7}/report").content
    kept.write_bytes(page + b"<!-- kept -->")
    assert service.alice.get(f"/v1/jobs/{id}/report").content.endswith(b"<!-- kept -->")
    assert service.alice.delete(f"/v1/jobs/{id}").status_code == 204
    assert not kept.exists()
    refused(service.alice.get(f"/v1/jobs/{id}/report"), 404, "not_found")


def test_a_report_of_another_version_is_drawn_again_with_names_escaped(service: Service):
    id = service.record(text=HOSTILE[0])
    kept = service.folder / "reports" / f"{id}.html"
    kept.write_text('<meta name="generator" content="mdtree 0.0.1">')
    page = service.alice.get(f"/v1/jobs/{id}/report").text
    assert HOSTILE[0] not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page == kept.read_text(encoding="utf-8")


def test_a_report_that_cannot_be_kept_is_shown_all_the_same(service: Service):
    id = service.record()
    (service.folder / "reports" / f"{id}.html").mkdir()
    assert service.alice.get(f"/v1/jobs/{id}/report").text == page_of("run7.pt")


def test_a_comparison_shows_the_jobs_in_the_order_asked(service: Service, run7: str, run8: str):
    answer = service.alice.get("/v1/comparison", params={"job": [run8, run7]})
    assert (answer.status_code, answer.text) == (200, page_of("run8.pt", "run7.pt"))


@pytest.mark.parametrize("count", [0, 1, 21])
def test_a_comparison_is_of_two_to_twenty_jobs(service: Service, count: int):
    refused(service.alice.get("/v1/comparison", params={"job": [ID] * count}), 422, "invalid")


def test_a_comparison_with_a_job_of_another_owner_is_not_there(service: Service):
    mine, other = service.record(), service.record(owner="bob")
    refused(service.alice.get("/v1/comparison", params={"job": [mine, other]}), 404, "not_found")
    refused(service.alice.post("/v1/links", json={"jobs": [mine, other]}), 404, "not_found")


def test_a_comparison_of_a_job_that_waits_is_refused(service: Service):
    ids = [service.record(), service.job()["id"]]
    refused(service.alice.get("/v1/comparison", params={"job": ids}), 409, "job_not_ended")
    refused(service.alice.post("/v1/links", json={"jobs": ids}), 409, "job_not_ended")


def test_a_record_that_no_page_can_show_is_told_so(service: Service, run7: str):
    values = full_record().to_dict()
    values["series"]["spectral_density"].update(eigenvalues=[1e308, -1e308], density=[1e308, 1e308], width=1e-300)
    answer = service.alice.post("/v1/records", content=json.dumps(values))
    odd = answer.headers["Location"].rpartition("/")[2]
    assert "no page" in refused(service.alice.get(f"/v1/jobs/{odd}/report"), 409, "not_drawn")
    refused(service.alice.get("/v1/comparison", params={"job": [run7, odd]}), 409, "not_drawn")


def link(service: Service, *jobs: str) -> str:
    """An address that opens the page of these jobs (see `test_service_links`)."""
    return str(service.alice.post("/v1/links", json={"jobs": jobs}).json()["url"])


def test_a_link_opens_a_report_without_a_token(service: Service, run7: str):
    answer = service.nobody.get(link(service, run7))
    assert (answer.status_code, answer.text) == (200, page_of("run7.pt"))
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_a_link_opens_a_comparison_without_a_token(service: Service, run7: str, run8: str):
    assert service.nobody.get(link(service, run8, run7)).text == page_of("run8.pt", "run7.pt")


def test_a_busy_server_says_so(service: Service):
    id = service.record(text="new.pt")
    places = service.app.state.shared.renderer._places
    taken = 0
    while places.acquire(blocking=False):
        taken += 1
    try:
        answer = service.alice.get(f"/v1/jobs/{id}/report")
    finally:
        for _ in range(taken):
            places.release()
    refused(answer, 503, "drawing_busy")
    assert int(answer.headers["Retry-After"]) > 0


def test_the_map_of_the_zoo_is_small_and_kept_by_browsers(service: Service):
    answer = service.alice.get("/v1/zoo-map", headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) < 100_000
    zoo = answer.json()
    assert len(zoo["points"]) > 1000
    assert {point["cause"] for point in zoo["points"]} == set(zoo["causes"])
    assert all(0 <= point["x"] <= 1 and 0 <= point["y"] <= zoo["axes"]["y"]["highest"] for point in zoo["points"])
    assert {len(row) for row in zoo["regions"]} == {len(zoo["regions"])} == {51}
    assert {number for row in zoo["regions"] for number in row} == {-1, 0, 1, 2, 3, 4}
    tag = answer.headers["ETag"]
    again = service.alice.get("/v1/zoo-map", headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert service.alice.get("/v1/zoo-map", headers={"If-None-Match": '"other"'}).json() == zoo


def test_the_server_tells_what_a_client_can_count_on(service: Service):
    told = service.alice.get("/v1/server").json()
    assert told["networks"] == ["mlp", "layernorm_mlp", "cnn", "groupnorm_cnn", "resnet18", "vit", "gru"]
    assert told["data_sets"] == ["digits"]
    assert told["limits"]["file_bytes"] == Limits().file_bytes
    assert told["protocol"] in JUDGE.zoo["protocols"]
