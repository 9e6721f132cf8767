"""The service is what its OpenAPI document says: schemathesis sends what it allows and what it does not."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import positive_data_acceptance
from service_http import record_body
from service_started import ALICE, StartedService

EXAMPLES = settings(
    max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
OPERATIONS = 19

MEANING = positive_data_acceptance
"""Requires that every body of the right form is accepted: also the id of a file that is not there."""


def operations(service: StartedService) -> list[Any]:
    """Every operation of the document that the service serves."""
    schema = schemathesis.openapi.from_url(f"{service.process.address}/openapi.json")
    return [found.ok() for found in schema.get_all_operations()]


def known_ids(service: StartedService) -> list[str]:
    """A file, a job that failed or will, and one that is done."""
    with service.client() as client:
        file = client.post("/v1/files", params={"name": "run7.pt"}, content=b"no weights").json()["id"]
        job = client.post("/v1/jobs", json={"checkpoint": file}).json()["id"]
        done = client.post("/v1/records", content=record_body())
        assert done.status_code == 201
        return [file, job, done.headers["Location"].rsplit("/", 1)[1]]


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
def test_every_operation_is_what_the_document_says(abused_service: StartedService, mode: Any) -> None:
    """No 5xx; statuses, types, headers and bodies as declared; what is not allowed is refused."""
    found, known = operations(abused_service), known_ids(abused_service)
    assert len(found) >= OPERATIONS
    positive = mode is schemathesis.GenerationMode.POSITIVE
    for operation in found:

        @EXAMPLES
        @given(case=operation.as_strategy(generation_mode=mode), id=st.sampled_from([None, *known]))
        def sends(case: Any, id: str | None) -> None:
            if positive and id is not None and "id" in (case.path_parameters or {}):
                case.path_parameters["id"] = id
            case.call_and_validate(headers={"Authorization": f"Bearer {ALICE}"}, excluded_checks=[MEANING])

        with contextlib.suppress(Unsatisfiable):  # an operation without parameters cannot be asked wrongly
            sends()
