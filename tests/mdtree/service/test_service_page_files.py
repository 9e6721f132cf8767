"""The files of the page: how they are served, and that nothing in them needs more than a page may do here."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from mdtree.plots.style import COLOURS
from mdtree.service.web.page import CONTENT_TYPES, page_files, router

NAMES = sorted(page_files())
SCRIPTS = [name for name in NAMES if name.endswith(".js")]


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    app.include_router(router)
    return TestClient(app)


def text_of(name: str) -> str:
    return page_files()[name].body.decode()


def test_the_page_is_at_the_root(client: TestClient):
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == page_files()["index.html"].body


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_sent_once_and_confirmed_afterwards(client: TestClient, name: str):
    first = client.get(f"/static/{name}")
    assert first.content == page_files()[name].body
    assert first.headers["content-type"] == CONTENT_TYPES[f".{name.rpartition('.')[2]}"]
    assert first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    for held in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(f"/static/{name}", headers={"If-None-Match": held})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert client.get(f"/static/{name}", headers={"If-None-Match": '"other"'}).status_code == 200
    head = client.head(f"/static/{name}")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", etag)


def test_files_have_different_tags():
    assert len({file.etag for file in page_files().values()}) == len(NAMES)


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fpage.py", "%2e%2e%2fjobs.py", "page", "index.html%00", "."])
def test_nothing_else_is_served(client: TestClient, name: str):
    assert client.get(f"/static/{name}").status_code in (404, 405)


def test_all_that_the_page_asks_for_is_there():
    asked = set(re.findall(r"/static/([\w.]+)", text_of("index.html")))
    for name in SCRIPTS:
        asked |= {f"{module}.js" for module in re.findall(r'from "\./(\w+)\.js"', text_of(name))}
    assert asked | {"index.html"} == set(NAMES)


def test_the_page_holds_no_code_and_no_style_of_its_own():
    page = text_of("index.html")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == [""]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_from_elsewhere(name: str):
    # the name of the SVG language is no address that anybody asks
    assert re.findall(r"(?:https?:)?//[\w.]+\.\w+/", text_of(name).replace("http://www.w3.org/2000/svg", "")) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_text_never_becomes_markup(name: str):
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(", text_of(name))
    assert 'setAttribute("style"' not in text_of(name)


def test_verdicts_have_the_colours_of_the_pictures_and_of_the_reports():
    style = text_of("app.css")
    report = (files("mdtree") / "templates" / "report.css").read_text()
    of_verdicts = re.compile(rf"--({'|'.join(COLOURS)}): (#\w+)")
    assert dict(of_verdicts.findall(style.split("@media")[0])) == COLOURS
    assert of_verdicts.findall(style) == of_verdicts.findall(report)
