"""A token sees its own jobs alone; without one nothing is answered, where tokens are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from service_http import Service, refused, service_of

from mdtree.service.settings import Limits
from mdtree.service.storage.store import Store
from mdtree.service.tokens import Tokens

ID = "0" * 32


@pytest.fixture
def service(sqlite_url: str, tmp_path: Path) -> Iterator[Service]:
    store = Store(sqlite_url)
    with service_of(store, tmp_path / "data", limits=Limits(disk_floor_bytes=0)) as service:
        yield service
    store.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/jobs/{id}"),
        ("GET", "/v1/jobs/{id}/result"),
        ("GET", "/v1/jobs/{id}/report"),
        ("POST", "/v1/jobs/{id}/cancel"),
        ("DELETE", "/v1/jobs/{id}"),
    ],
)
def test_jobs_of_another_owner_are_not_there(service: Service, method: str, path: str):
    for id in (service.record(), service.job()["id"]):
        mine = service.bob.request(method, path.format(id=id))
        none = service.bob.request(method, path.format(id=ID))
        refused(mine, 404, "not_found")
        assert mine.text == none.text.replace(ID, id)
        assert service.alice.get(f"/v1/jobs/{id}").status_code == 200
    assert service.bob.get("/v1/jobs").json() == {"jobs": [], "next": None}


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {token}", "{token}"])
def test_without_a_known_token_nothing_is_answered(service: Service, header: str | None):
    token = service.alice.headers["Authorization"].removeprefix("Bearer ")
    headers = {} if header is None else {"Authorization": header.format(token=token)}
    addresses = [
        ("GET", "/v1/files"), ("POST", "/v1/files?name=a"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs"),
        ("GET", f"/v1/jobs/{ID}/report"), ("POST", "/v1/records"), ("GET", f"/v1/comparison?job={ID}&job={ID}"),
        ("POST", "/v1/links"), ("GET", "/v1/server"), ("GET", "/v1/zoo-map"), ("GET", "/metrics"),
    ]  # fmt: skip
    for method, path in addresses:
        answer = service.nobody.request(method, path, headers=headers)
        refused(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_without_tokens_everybody_is_the_same_owner(sqlite_url: str, tmp_path: Path):
    store = Store(sqlite_url)
    with service_of(store, tmp_path / "data", tokens=Tokens(), limits=Limits(disk_floor_bytes=0)) as service:
        job = service.job(owner="nobody")
        assert service.bob.get(f"/v1/jobs/{job['id']}").json() == job
    store.close()
