"""The OpenAPI document is complete and true: what it allows is answered as it says, what it forbids is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from service_http import Service, refused, service_of, token_of

from mdtree.service.settings import Limits
from mdtree.service.storage.store import Store

EXAMPLES = 10
"""Requests of each operation and kind."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    store = Store(f"sqlite:///{folder / 'service.sqlite'}")
    with service_of(store, folder / "data", limits=Limits(disk_floor_bytes=0)) as service:
        yield service
    store.close()


BY_NAME = {
    "POST /v1/jobs": "the files that a job names must have been uploaded",
    "POST /v1/records": "a key must not have come with another record",
}
"""What no schema can say: here a request that is as declared may be refused, with 422."""


OPERATIONS = (
    "GET /health", "GET /metrics", "GET /ready", "GET /v1/comparison", "GET /v1/files", "POST /v1/files",
    "GET /v1/files/{id}", "DELETE /v1/files/{id}", "GET /v1/jobs", "POST /v1/jobs", "GET /v1/jobs/{id}",
    "DELETE /v1/jobs/{id}", "POST /v1/jobs/{id}/cancel", "GET /v1/jobs/{id}/report", "GET /v1/jobs/{id}/result",
    "POST /v1/links", "POST /v1/records", "GET /v1/server", "GET /v1/zoo-map",
)  # fmt: skip


@pytest.fixture(scope="module")
def described(service: Service) -> dict[str, Any]:
    """Every operation of the document, as a program that sends requests by it reads it."""
    api = schemathesis.openapi.from_asgi("/openapi.json", service.app)
    return {found.ok().label: found.ok() for found in api.get_all_operations()}


def test_these_are_all_operations(described: dict[str, Any]):
    assert sorted(described) == sorted(OPERATIONS)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_request_is_answered_as_declared(described: dict[str, Any], name: str, mode: GenerationMode):
    excluded = [positive_data_acceptance] if name in BY_NAME else []

    @given(case=described[name].as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=HealthCheck)
    def answered(case: schemathesis.Case) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {token_of('alice')}"}, excluded_checks=excluded)

    try:
        answered()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "this operation has requests"


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    answer = service.nobody.get("/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_address_but_those_for_operators_asks_for_a_token(document: dict[str, Any]):
    free = {path for path, _, operation in operations(document) if not operation.get("security")}
    assert free == {"/health", "/ready"}
    pages = {"/v1/jobs/{id}/report", "/v1/comparison"}
    ticketed = {path for path, _, operation in operations(document) if {"ticket": []} in operation.get("security", [])}
    assert ticketed == pages


def test_every_refusal_is_declared_in_the_one_form(document: dict[str, Any]):
    for path, _, operation in operations(document):
        if not path.startswith("/v1/"):
            continue
        assert "401" in operation["responses"], path
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_address_of_the_document_refuses_the_other_methods(service: Service, document: dict[str, Any]):
    for path, methods in document["paths"].items():
        answer = service.alice.request("PATCH", path.replace("{id}", "0" * 32))
        refused(answer, 405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(", ")) == {method.upper() for method in methods}, path


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/files/", "/v2/jobs", "/docs", "/redoc", "/%00", "/v1/jobs/../x"])
def test_any_other_address_is_not_there(service: Service, path: str):
    assert "/openapi.json" in refused(service.alice.get(path), 404, "not_found")


def test_the_document_names_no_other_host(service: Service):
    assert not re.search(r"https?://(?!json-schema\.org)", service.nobody.get("/openapi.json").text)


def test_a_defect_is_told_without_its_words(service: Service, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise RuntimeError(f"secret of {Path.home()}")

    monkeypatch.setattr(service.store, "files", broken)
    assert "secret" not in refused(service.alice.get("/v1/files"), 500, "internal")
