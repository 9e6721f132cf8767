"""`/v1/jobs`: measurements that are asked for, and how they stand."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from mdtree.diagnoser import UNDETERMINED
from mdtree.service.jobs import Job, JobRequest, Kind, State
from mdtree.service.web.access import ID_PATTERN, Bearer, Id, Owner
from mdtree.service.web.answers import JSON, answer, json_answer
from mdtree.service.web.api_errors import ApiError, invalid, not_found, refusals
from mdtree.service.web.api_models import JobBody, JobList, JobView, job_view
from mdtree.service.web.documents import json_of, json_request
from mdtree.service.web.idempotent import REPLAYED_HEADERS, KeyHeader, key_of, made_headers
from mdtree.service.web.json_body import parse_json, read_body
from mdtree.service.web.state import Shared, shared
from mdtree.zoo import FAILURES

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=Bearer)

States = Annotated[list[State], Query(alias="state", max_length=5, description="Only jobs in one of these states")]
Verdicts = Annotated[
    list[Annotated[str, Query(pattern=f"^({'|'.join((*FAILURES, UNDETERMINED))})$")]],
    Query(alias="verdict", max_length=6, description="Only jobs with one of these verdicts"),
]
NamePart = Annotated[str, Query(max_length=100, description="Only jobs whose name holds this")]
Before = Annotated[str | None, Query(pattern=ID_PATTERN, description="The last job of the page before")]
Limit = Annotated[int, Query(ge=1, le=200)]

_IN_NO_NAME = re.compile(r"[^A-Za-z0-9._+@=-]")
"""Signs that no name has (see `mdtree.service.display_names`), and a database may not take."""


@router.post(
    "",
    status_code=202,
    summary="Ask for a measurement and its diagnosis",
    responses={
        202: {"model": JobView, "description": "In the queue", "headers": REPLAYED_HEADERS},
        **refusals(400, 401, 408, 413, 422, 429, 503, 507),
    },
    openapi_extra=json_request("JobBody"),
)
async def add_job(request: Request, owner: Owner, key: KeyHeader = None) -> Response:
    body = await read_body(request, shared(request).settings.limits.body_bytes)
    return await run_in_threadpool(_added, request, owner, key, body)


def _added(request: Request, owner: str, word: str | None, body: bytes) -> Response:
    here = shared(request)
    asked = _asked(body, here)
    here.check_space()
    # where there is no such file, the store says so, unless this was asked before
    checkpoint = here.store.file(owner, asked.checkpoint)
    job = Job(
        id=secrets.token_hex(16),
        owner=owner,
        name=checkpoint.name if checkpoint else asked.checkpoint,
        kind=Kind.CHECKPOINT,
        state=State.QUEUED,
        created_at=datetime.now(UTC),
        request=asked,
    )
    kept, is_new = here.store.add_job(job, here.settings.limits, key_of(request, word, body))
    return json_answer(request, job_view(kept), 202, made_headers(kept.id, is_new))


def _asked(body: bytes, here: Shared) -> JobRequest:
    """The request of a body, with names that the server knows."""
    try:
        asked = JobBody.model_validate(parse_json(body, "the body")).request()
    except ValidationError as error:
        raise invalid(error.errors()) from error
    allowed = here.settings.limits.siblings
    if len(asked.siblings) > allowed:
        message = f"there are {len(asked.siblings)} siblings; expected at most {allowed}"
        raise ApiError(422, "invalid", message, field="siblings")
    registry = here.settings.registry
    if asked.architecture is not None:
        registry.network(asked.architecture)
    if asked.data is not None and asked.data.name is not None:
        registry.data(asked.data.name)
    return asked


@router.get("", summary="Jobs, newest first", responses={200: {"model": JobList}, **refusals(401, 404, 422, 503)})
def list_jobs(
    request: Request,
    owner: Owner,
    states: States = [],  # noqa: B006  (the framework copies it)
    verdicts: Verdicts = [],  # noqa: B006
    kind: Kind | None = None,
    name: NamePart = "",
    limit: Limit = 50,
    before: Before = None,
) -> Response:
    found: list[Job] = []
    if not _IN_NO_NAME.search(name):
        found = shared(request).store.jobs(
            owner, states=states, verdicts=verdicts, name=name, kind=kind, limit=limit + 1, before=before
        )
    following = found[limit - 1].id if len(found) > limit else None
    return json_answer(request, {"jobs": [job_view(job) for job in found[:limit]], "next": following})


@router.get("/{id}", summary="A job as it stands", responses={200: {"model": JobView}, **refusals(401, 404, 422, 503)})
def show_job(request: Request, owner: Owner, id: Id) -> Response:
    return json_answer(request, job_view(job_of(shared(request), owner, id)))


@router.get(
    "/{id}/result",
    summary="The diagnosis",
    description="To the byte what `mdtree diagnose --json` prints.",
    responses={200: json_of("Diagnosis", "The diagnosis"), **refusals(401, 404, 409, 422, 503)},
)
def show_result(request: Request, owner: Owner, id: Id) -> Response:
    return answer(request, result_of(shared(request), owner, id).encode() + b"\n", JSON)


@router.post(
    "/{id}/cancel",
    summary="Cancel a job",
    description="One that waits is cancelled at once, one that runs is stopped in a moment; an ended one stays.",
    responses={200: {"model": JobView}, **refusals(401, 404, 422, 503)},
)
def cancel_job(request: Request, owner: Owner, id: Id) -> Response:
    here = shared(request)
    job = here.store.cancel(owner, id, retention=here.settings.retention)
    if job is None:
        raise not_found("job", id)
    return json_answer(request, job_view(job))


@router.delete(
    "/{id}",
    status_code=204,
    summary="Delete a job with its answer and its report",
    response_class=Response,
    responses={204: {"description": "Deleted"}, **refusals(401, 404, 409, 422, 503)},
)
def delete_job(request: Request, owner: Owner, id: Id) -> Response:
    if not shared(request).store.delete_job(owner, id):
        raise not_found("job", id)
    shared(request).folder.report(id).unlink(missing_ok=True)
    return Response(status_code=204)


def job_of(here: Shared, owner: str, id: str) -> Job:
    """The job of this owner.

    Raises
    ------
    ApiError
        404.
    """
    job = here.store.job(owner, id)
    if job is None:
        raise not_found("job", id)
    return job


def result_of(here: Shared, owner: str, id: str) -> str:
    """The text of the answer of a job that is done.

    Raises
    ------
    ApiError
        404, or 409 where there is no answer (yet), with the reason.
    """
    job = job_of(here, owner, id)
    text = here.store.diagnosis(owner, id) if job.state is State.DONE else None
    if text is not None:
        return text
    if job.state is State.DONE:
        raise not_found("job", id)  # deleted since
    if job.failure is not None:
        raise ApiError(409, "job_failed", f"this job failed: {job.failure.message}")
    if job.state is State.CANCELLED:
        raise ApiError(409, "job_cancelled", "this job was cancelled: it has no answer")
    raise ApiError(409, "job_not_ended", f"this job is {job.state}: it has no answer yet")
