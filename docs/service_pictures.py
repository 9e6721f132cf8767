"""Write `docs/service/page.png` and `docs/service/phone.png`: the page of the service with diagnosed zoo samples.

A service is started in a folder of its own; a browser sends it checkpoints with their siblings as a visitor would, on a
desk and on a phone. Needs Chromium and the extras `images` and `test` (Pillow, Playwright):

    python docs/service_pictures.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINTS = ROOT / "zoo_samples" / "checkpoints"
SENT = ("healthy-1", "model_too_small-1", "temperature_too_high-1", "too_little_data-2", "temperature_too_low-1")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESK, PHONE = (1280, 900), (390, 844)
COLOURS = 256


@contextmanager
def running_service() -> Iterator[str]:
    """The address of a service that is gone afterwards, with its data."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "mdtree", "serve", "--port", "0", "--data-dir", folder]
        service = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert service.stdout is not None
            yield service.stdout.readline().strip()
        finally:
            service.terminate()
            service.wait(60)


def opened(browser: Browser, address: str, size: tuple[int, int], **options: Any) -> Page:
    """The page in a window of this size."""
    page = browser.new_context(viewport={"width": size[0], "height": size[1]}, locale="en-GB", **options).new_page()
    page.goto(address)
    return page


def send(page: Page, name: str) -> None:
    """Send a checkpoint with its sibling and wait for the verdict."""
    page.locator("#files").set_input_files([CHECKPOINTS / f"{name}.pt", CHECKPOINTS / f"{name}.sibling.pt"])
    page.get_by_role("button", name="Diagnose").click()
    card = page.locator("#card").filter(has=page.get_by_role("heading", name=f"{name}.pt"))
    card.locator(".answer strong").wait_for(timeout=60_000)
    card.get_by_text("What was opened").wait_for()


def take(page: Page, file: Path, **options: Any) -> None:
    """A picture of the page, with a palette: a quarter of the bytes."""
    page.screenshot(path=file, **options)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(COLOURS, kmeans=3, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    """Take both pictures."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    folder = ROOT / "docs" / "service"
    folder.mkdir(exist_ok=True)
    with running_service() as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = opened(browser, address, DESK)
        for name in SENT:
            send(page, name)
        page.locator(".plane .job-name").wait_for()
        page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
        take(page, folder / "page.png", full_page=True)
        phone = opened(browser, page.url, PHONE, is_mobile=True, device_scale_factor=2)
        phone.get_by_text("What was opened").wait_for()
        phone.locator("#card").evaluate("card => card.scrollIntoView()")
        take(phone, folder / "phone.png")
        browser.close()


if __name__ == "__main__":
    main()
