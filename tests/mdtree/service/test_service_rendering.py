"""The process that draws pages is replaced when it dies or hangs, and nobody waits without end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest
from reported import told
from service_http import eventually

from mdtree.service.drawing.rendering import BusyError, EndedError, NotDrawnError, Renderer


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    renderer = Renderer(seconds=20, waiting=2)
    yield renderer
    renderer.close()


def test_a_page_is_drawn_again_after_the_process_died(renderer: Renderer):
    renderer.start()
    process = renderer._process
    assert process is not None
    process.kill()
    process.wait()
    assert json.loads(renderer.zoo_map())["told_by"] == "grid"
    with pytest.raises(NotDrawnError):
        renderer.report(["{}"])
    renderer.close()
    with pytest.raises(BusyError, match="stopping"):
        renderer.report(["{}"])


def test_a_page_that_takes_too_long_is_given_up(renderer: Renderer):
    renderer.start()
    stuck = renderer._process
    assert stuck is not None
    renderer._seconds = 0.01
    with pytest.raises(EndedError, match=r"0\.01 s"):
        renderer.report([told("run7.pt").to_json()])
    assert stuck.poll() is not None


def test_no_more_pages_are_waited_for_than_may_be(renderer: Renderer):
    with renderer._turn:
        waiting = [threading.Thread(target=renderer.start) for _ in range(2)]
        for thread in waiting:
            thread.start()
        eventually(lambda: renderer._places._value == 0)
        with pytest.raises(BusyError):
            renderer.report([])
    renderer.close()
    for thread in waiting:
        thread.join()


def test_the_process_ends_with_a_server_that_is_killed():
    script = (
        "import time\nfrom mdtree.service.drawing.rendering import Renderer\n"
        "renderer = Renderer()\nrenderer.start()\nprint(renderer._process.pid, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        drawing = psutil.Process(int(server.stdout.readline()))
        assert drawing.is_running()
        server.kill()
    eventually(lambda: not drawing.is_running() or drawing.status() == psutil.STATUS_ZOMBIE)
