"""Who may not ask: without a token, with another one, under another name, for a page of another site."""

from __future__ import annotations

import pytest
from service_raw import exchange, head
from service_started import ALICE, BOB, StartedService


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        f"Bearer {ALICE}x",
        f"Bearer {ALICE[:-1]}",
        f"Basic {ALICE}",
        f"Bearer {'x' * 8000}",
    ],
    ids=["none", "empty", "no token", "longer", "shorter", "another scheme", "endless"],
)
def test_without_its_token_nothing_is_shown_or_taken(abused_service: StartedService, authorization: str | None) -> None:
    before = abused_service.stored()
    headers = {} if authorization is None else {"Authorization": authorization}
    with abused_service.client(None, **headers) as client:
        for method, path in (
            ("GET", "/v1/jobs"),
            ("GET", "/v1/files"),
            ("POST", "/v1/files?name=x.pt"),
            ("POST", "/v1/jobs"),
            ("POST", "/v1/records"),
            ("GET", f"/v1/jobs?token={ALICE}"),
            ("GET", "/metrics"),
        ):
            answer = client.request(method, path, content=b"{}" if method == "POST" else None)
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert ALICE not in answer.text
    assert abused_service.stored() == before


def test_another_s_token_does_not_see_what_is_mine(abused_service: StartedService) -> None:
    """Files, jobs, results, reports, links: as if they were not there."""
    with abused_service.client() as alice, abused_service.client(BOB) as bob:
        file = alice.post("/v1/files", params={"name": "mine.pt"}, content=b"content").json()["id"]
        assert bob.get(f"/v1/files/{file}").status_code == 404
        assert bob.delete(f"/v1/files/{file}").status_code == 404
        assert bob.post("/v1/jobs", json={"checkpoint": file}).status_code == 422
        job = alice.post("/v1/jobs", json={"checkpoint": file}).json()["id"]
        for path in (f"/v1/jobs/{job}", f"/v1/jobs/{job}/result", f"/v1/jobs/{job}/report"):
            assert bob.get(path).status_code == 404
        assert bob.post(f"/v1/jobs/{job}/cancel").status_code == 404
        assert bob.delete(f"/v1/jobs/{job}").status_code == 404
        assert bob.post("/v1/links", json={"jobs": [job]}).status_code in (404, 422)
        assert job not in bob.get("/v1/jobs").text
        assert alice.get(f"/v1/jobs/{job}").status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "127.0.0.1:1", "localhost.evil", ""],
)
def test_a_name_that_was_bound_to_this_address_is_refused(abused_service: StartedService, host: str) -> None:
    """DNS rebinding: a page of evil.example reaches the port, and its browser says the name."""
    words = head(
        "GET",
        "/v1/jobs",
        f"Authorization: Bearer {ALICE}",
        "Connection: close",
        host=host.format(port=abused_service.port),
    )
    assert exchange(abused_service.port, words, seconds=2).status in (400, 421)


def test_a_request_names_one_host(abused_service: StartedService) -> None:
    none = f"GET /v1/jobs HTTP/1.1\r\nAuthorization: Bearer {ALICE}\r\n\r\n".encode()
    assert exchange(abused_service.port, none, seconds=2).status == 400
    assert (
        exchange(abused_service.port, abused_service.head("GET", "/v1/jobs", "Host: evil.example"), seconds=2).status
        == 400
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=lambda headers: "-".join(headers.values()),
)
def test_a_page_of_another_site_changes_nothing(abused_service: StartedService, headers: dict[str, str]) -> None:
    before = abused_service.stored()
    with abused_service.client(**headers) as client:
        assert client.post("/v1/files", params={"name": "x.pt"}, content=b"x").status_code == 403
        assert client.post("/v1/records", json={}).status_code == 403
        assert client.delete(f"/v1/jobs/{'0' * 32}").status_code == 403
        seen = client.get("/v1/jobs")
        assert not any(name.lower().startswith("access-control") for name in seen.headers)
        asked = client.request("OPTIONS", "/v1/jobs", headers={"Access-Control-Request-Method": "POST"})
        assert not any(name.lower().startswith("access-control") for name in asked.headers)
    assert abused_service.stored() == before
