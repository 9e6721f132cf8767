"""What a client calls a file is never a path, and no path leads out of the service."""

from __future__ import annotations

from pathlib import Path

import pytest
from service_raw import exchange
from service_started import StartedService

NAMES = (
    "../../../../etc/cron.d/x",
    "..",
    "/etc/passwd",
    "..\\..\\windows\\x.pt",
    "x\x00.pt",
    "a\r\nSet-Cookie: b=1",
    "<script>alert(1)</script>.pt",
    "%2e%2e%2fsecret",
    "\u202etp.exe",
    "npz:x?y=1&z=2.npz",
    "-rf",
    "x" * 1000,
    "🦀" * 200,
    ".",
    "con:",
)


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:24] for name in NAMES])
def test_a_name_is_never_a_path(abused_service: StartedService, name: str) -> None:
    """A file lies in a folder of random digits, under a name that is not the client's but for its suffix."""
    before = abused_service.stored()
    with abused_service.client() as client:
        answer = client.post("/v1/files", params={"name": name}, content=b"content")
        assert answer.status_code == 201
        kept = answer.json()
        assert set(kept["name"]) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+@=-")
        assert kept["name"][0] not in ".-"
        (folder, file) = sorted(abused_service.stored() - before, key=len)
        assert folder == f"files/{kept['id']}"
        assert Path(file).parent == Path(folder)
        assert Path(file).stem == "upload"
        assert client.delete(f"/v1/files/{kept['id']}").status_code == 204
    assert abused_service.stored() == before


PATHS = (
    "/../../../../etc/passwd",
    "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/..%2f..%2f..%2fetc%2fpasswd",
    "/..%5c..%5cetc%5cpasswd",
    "/static/../../settings.py",
    "/app.js/../../../settings.py",
    "/page/..%2f..%2fsettings.py",
    "//etc/passwd",
    "/%00",
    "/v1/jobs/../../secret",
    "/v1/jobs/..%2f..%2fsecret/report",
    "/v1/jobs/%00/result",
    "/v1/files/" + "0" * 31 + "%00",
    "/v1/files/%F0%28%8C%28",
    "/v1/jobs/" + "a" * 4000,
    "http://other.example/v1/jobs/x/report",
    "/v1/jobs?before=' OR 1=1 --&limit=-1",
)


@pytest.mark.parametrize("path", PATHS, ids=[path[:30] for path in PATHS])
def test_no_path_leads_out_of_the_service(abused_service: StartedService, path: str) -> None:
    found = exchange(
        abused_service.port, abused_service.head("GET", path.replace(" ", "%20"), "Connection: close"), seconds=3
    )
    assert found.status in (400, 404, 421, 422)
    assert "root:" not in found.text
    assert str(abused_service.data) not in found.text
