"""A headless Chromium of the system, driven by Playwright, which downloads no browser of its own here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

DESKTOP, PHONE = (1280, 900), (390, 844)


def chromium() -> str | None:
    """Where the system's Chromium lies; None without one."""
    return next((found for found in map(shutil.which, NAMES) if found), None)


@dataclass
class Opened:
    """A page that was opened, and what it did.

    Attributes
    ----------
    page : playwright.sync_api.Page
    requests : list of str
        Addresses it asked for, its own left out.
    complaints : list of str
        Errors and warnings on the console, a refusal of the content security policy among them.
    """

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def accessibility(self) -> list[str]:
        """What axe finds against WCAG 2.2 AA and its own best practices: `rule (impact): element`."""
        from axe_playwright_python.sync_playwright import Axe

        violations = Axe().run(self.page).response["violations"]
        return [f"{v['id']} ({v['impact']}): {node['html'][:200]}" for v in violations for node in v["nodes"]]

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


class Browser:
    """Opens pages; make one with `running_browser`."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    def open(self, file: Path, size: tuple[int, int] = DESKTOP, *, dark: bool = False, scripts: bool = True) -> Opened:
        """Open a file in a window of its own, with an empty profile."""
        return self.open_address(file.resolve().as_uri(), size, dark=dark, scripts=scripts)

    def open_address(
        self, address: str, size: tuple[int, int] = DESKTOP, *, dark: bool = False, scripts: bool = True
    ) -> Opened:
        """Open an address in a window of its own, with an empty profile."""
        context = self._chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
        )
        opened = Opened(context.new_page())
        opened.page.on("request", lambda r: opened.requests.append(r.url) if r.url != address else None)
        opened.page.on(
            "console", lambda m: opened.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.goto(address)
        return opened


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser for as long as the block lasts."""
    from playwright.sync_api import sync_playwright

    executable = chromium()
    assert executable is not None, f"none of {', '.join(NAMES)} is installed"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield Browser(browser)
        finally:
            browser.close()
