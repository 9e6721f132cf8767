"""Somebody in front of the service's page, in a real browser, and the service he visits."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from browser import DESKTOP, Browser, Opened, chromium, running_browser
from safetensors.numpy import save
from service_started import benchmark_module

SAMPLES = Path(__file__).parents[3] / "zoo_samples" / "checkpoints"
NO_BROWSER = "Chromium is not installed"

OF_A_REFUSAL = re.compile(r"^Failed to load resource: the server responded with a status of 4\d\d ")
"""What a browser itself writes on its console when a request is refused."""

DROP = """([zone, files]) => {
  const carried = new DataTransfer();
  for (const [name, bytes] of files) carried.items.add(new File([new Uint8Array(bytes)], name));
  for (const kind of ["dragenter", "dragover", "drop"])
    zone.dispatchEvent(new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""


def sample(name: str) -> tuple[str, bytes]:
    """A checkpoint of the zoo samples: its file name and its bytes."""
    return f"{name}.pt", (SAMPLES / f"{name}.pt").read_bytes()


def pair(name: str) -> list[tuple[str, bytes]]:
    """A checkpoint and its sibling."""
    return [sample(name), sample(f"{name}.sibling")]


def slow_work() -> tuple[list[tuple[str, bytes]], str]:
    """Untrained networks so wide that measuring them takes half a minute, their data, and the name of the network."""
    draw = np.random.default_rng(0)
    width = 900
    shapes = {"hidden1": (width, 64), "hidden2": (width, width), "output": (10, width)}
    files = []
    for name in ("wide.safetensors", "wide.sibling.safetensors"):
        weights = {f"{layer}.bias": np.zeros(shape[0], np.float32) for layer, shape in shapes.items()}
        for layer, shape in shapes.items():
            weights[f"{layer}.weight"] = draw.normal(0, shape[1] ** -0.5, shape).astype(np.float32)
        files.append((name, save(weights)))
    data = BytesIO()
    np.savez(data, x_train=draw.random((4096, 64), np.float32), y_train=np.arange(4096) % 10)
    return [*files, ("noise.npz", data.getvalue())], f"mlp?width={width}"


@dataclass
class Visitor:
    """An open page and the address of its service.

    Attributes
    ----------
    opened : Opened
    address : str
    """

    opened: Opened
    address: str

    @property
    def page(self) -> Any:
        return self.opened.page

    def choose(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Choose files with the button."""
        buffers = [{"name": name, "mimeType": "application/octet-stream", "buffer": body} for name, body in files]
        self.page.locator("#files").set_input_files(buffers)

    def drop(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Drop files on the zone."""
        zone = self.page.locator("#zone").element_handle()
        self.page.evaluate(DROP, [zone, [[name, list(body)] for name, body in files]])

    def roles(self) -> dict[str, str]:
        """The role of every chosen file."""
        rows = self.page.locator("#chosen > li").all()
        return {row.locator(".file bdi").inner_text(): row.locator("select").input_value() for row in rows}

    def send(self, files: Sequence[tuple[str, bytes]] = ()) -> str:
        """Choose files, send what is chosen, and wait for the card of the new job; its id."""
        before = self.page.url
        if files:
            self.choose(files)
        self.page.get_by_role("button", name="Diagnose").click()
        self.page.wait_for_url(lambda url: "#job=" in url and url != before)
        return str(self.page.url.rpartition("=")[2])

    def verdict(self) -> str:
        """The verdict on the card, when it is there."""
        return str(self.page.locator("#card .answer strong").inner_text(timeout=30_000))

    def whole_card(self) -> Any:
        """The card, when everything on it has come."""
        card = self.page.locator("#card")
        card.get_by_role("link", name="Open report").and_(self.page.locator("[href]")).wait_for()
        card.get_by_text("What was opened").wait_for()
        return card

    def open_in_a_new_page(self, link: Any) -> Opened:
        """Follow a link that opens a page of its own; what that page complains of is heard from its start."""
        opened: list[Opened] = []

        def heard(page: Any) -> None:
            one = Opened(page)
            opened.append(one)
            page.on("console", lambda m: one.complaints.append(m.text) if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: one.complaints.append(str(error)))

        self.page.context.on("page", heard)
        with self.page.context.expect_page() as coming:
            link.click()
        coming.value.wait_for_load_state()
        self.page.context.remove_listener("page", heard)
        return opened[0]

    def ask(self, path: str) -> Any:
        """The JSON that the service itself answers."""
        return httpx.get(f"{self.address}{path}", trust_env=False, timeout=20).raise_for_status().json()

    def compare(self, *names: str) -> Any:
        """Choose jobs by their names; the table of the comparison."""
        for name in names:
            self.page.get_by_role("checkbox", name=f"Compare {name}").first.check()
        self.page.locator("#comparison a[href]").first.wait_for()
        return self.page.locator("#comparison table")

    def complaints(self) -> list[str]:
        """What the browser complained of, its own lines about refused requests left out."""
        return [text for text in self.opened.complaints if not OF_A_REFUSAL.match(text)]

    def strangers(self) -> list[str]:
        """Requests to anybody but the service."""
        return [url for url in self.opened.requests if not url.startswith((f"{self.address}/", "blob:"))]

    def assert_well_behaved(self) -> None:
        """Nothing for axe to find, no complaint, no request elsewhere, nothing wider than the window."""
        assert self.opened.accessibility() == []
        assert self.complaints() == []
        assert self.strangers() == []
        assert self.opened.overflow() <= 0


@dataclass
class Door:
    """How one comes before the page of a service."""

    browser: Browser
    address: str

    def enter(self, path: str = "/", size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> Visitor:
        """Open the page in a window of its own; the caller closes its context, or the browser does in the end."""
        visitor = Visitor(self.browser.open_address(f"{self.address}{path}", size, dark=dark), self.address)
        visitor.page.set_default_timeout(20_000)
        return visitor


@contextmanager
def some_browser() -> Iterator[Browser]:
    """A browser; skipped for who has none, a failure on continuous integration."""
    if chromium() is None or importlib.util.find_spec("playwright") is None:
        if os.environ.get("CI"):
            pytest.fail(f"{NO_BROWSER}: continuous integration looks at the page (tests/system-packages.txt)")
        pytest.skip(NO_BROWSER)
    with running_browser() as browser:
        yield browser


@contextmanager
def open_service(folder: Path) -> Iterator[str]:
    """The address of a service without tokens, with one worker, that logs no error until its end."""
    processes, faults = benchmark_module("service_process"), benchmark_module("service_faults")
    process = processes.ServiceProcess(folder / "service")
    with processes.running(process):
        yield process.address
        assert process.stop() == 0
    assert faults.complaints(process.log) == []


def post_record(address: str, diagnosis: dict[str, Any], name: str) -> str:
    """Send a diagnosis as a record of another name over HTTP; the id of its job."""
    record = {**diagnosis, "checkpoint": {**diagnosis["checkpoint"], "path": name}}
    answer = httpx.post(f"{address}/v1/records", content=json.dumps(record), trust_env=False, timeout=20)
    return answer.raise_for_status().headers["Location"].rpartition("/")[2]
