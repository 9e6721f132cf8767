"""`/v1/records`: measured elsewhere, diagnosed at once."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from mdtree.service.jobs import Job, Kind, State
from mdtree.service.web.access import Bearer, Owner
from mdtree.service.web.answering import answer_record
from mdtree.service.web.answers import JSON, answer
from mdtree.service.web.api_errors import not_found, refusals
from mdtree.service.web.documents import json_of, json_request
from mdtree.service.web.idempotent import REPLAYED_HEADERS, KeyHeader, key_of, made_headers
from mdtree.service.web.json_body import read_body
from mdtree.service.web.state import shared

router = APIRouter(prefix="/v1/records", tags=["records"], dependencies=Bearer)


@router.post(
    "",
    status_code=201,
    summary="Diagnose a measured record",
    description="The body is what `mdtree measure --json` prints; the answer is to the byte what "
    "`mdtree diagnose RECORD.json --json` prints. It is kept as a job that is done.",
    responses={
        201: {**json_of("Diagnosis", "The diagnosis"), "headers": REPLAYED_HEADERS},
        **refusals(400, 401, 408, 413, 422, 429, 503, 507),
    },
    openapi_extra=json_request("Record"),
)
async def add_record(request: Request, owner: Owner, key: KeyHeader = None) -> Response:
    body = await read_body(request, shared(request).settings.limits.body_bytes)
    return await run_in_threadpool(_answered, request, owner, key, body)


def _answered(request: Request, owner: str, word: str | None, body: bytes) -> Response:
    here = shared(request)
    found = answer_record(here.diagnoser, body)
    here.check_space()
    now = datetime.now(UTC)
    job = Job(
        id=secrets.token_hex(16),
        owner=owner,
        name=found.name,
        kind=Kind.RECORD,
        state=State.DONE,
        created_at=now,
        started_at=now,
        finished_at=now,
        expires_at=now + here.settings.retention,
    )
    kept, is_new = here.store.add_answer(job, found.answer, here.settings.limits, key_of(request, word, body))
    text = found.answer.diagnosis if is_new else here.store.diagnosis(owner, kept.id)
    if text is None:
        raise not_found("job", kept.id)  # deleted at this moment
    return answer(request, text.encode() + b"\n", JSON, 201, made_headers(kept.id, is_new))
