"""Pages: the report of a job, the comparison of several, and links that open them without a token."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from mdtree import __version__
from mdtree.errors import MDTreeError
from mdtree.files import write_atomically
from mdtree.service.drawing.rendering import BusyError, EndedError, NotDrawnError
from mdtree.service.web.access import Bearer, Id, JobIds, Owner, TicketText, visitor_of
from mdtree.service.web.answers import HTML, answer, secret_answer
from mdtree.service.web.api_errors import ApiError, invalid, later, refusals
from mdtree.service.web.api_models import LinkBody, LinkView, time_text
from mdtree.service.web.documents import json_request, page_of
from mdtree.service.web.json_body import parse_json, read_body
from mdtree.service.web.routes_jobs import job_of, result_of
from mdtree.service.web.state import Shared, shared

router = APIRouter(prefix="/v1", tags=["reports"], dependencies=Bearer)

_DRAWN_BY = f'content="mdtree {__version__}"'.encode()
"""In the head of a page: one that another version drew is drawn again."""

_POLICY = re.compile(rb'<meta http-equiv="Content-Security-Policy" content="([^"]+)">')
_HEAD = 2000
_ALONE = "frame-ancestors 'none'; sandbox allow-scripts allow-downloads"
"""A page is no part of this site: whatever it came to run, it could not use the site's storage or its address."""


async def report_visitor(request: Request, id: Id, ticket: TicketText = None) -> str:
    """Whose report it is."""
    return visitor_of(request, [id], ticket)


async def comparison_visitor(request: Request, jobs: JobIds, ticket: TicketText = None) -> str:
    """Whose comparison it is."""
    return visitor_of(request, jobs, ticket)


@router.get(
    "/jobs/{id}/report",
    summary="The diagnosis as a page",
    description="One HTML document that loads nothing, as `mdtree report` writes.",
    response_class=Response,
    responses={200: page_of("The report"), **refusals(401, 404, 409, 422, 503)},
)
def show_report(request: Request, id: Id, owner: Annotated[str, Depends(report_visitor)]) -> Response:
    here = shared(request)
    text = result_of(here, owner, id)
    page = _kept_page(here, id)
    if page is None:
        page = _drawn(here, [text])
        _keep_page(here, owner, id, page)
    return _page_answer(request, page, f"{job_of(here, owner, id).name}.html")


@router.get(
    "/comparison",
    summary="Several diagnoses side by side",
    description="One HTML document that loads nothing. Each is shown as it was answered.",
    response_class=Response,
    responses={200: page_of("The comparison"), **refusals(401, 404, 409, 422, 503)},
)
def show_comparison(request: Request, jobs: JobIds, owner: Annotated[str, Depends(comparison_visitor)]) -> Response:
    here = shared(request)
    page = _drawn(here, [result_of(here, owner, id) for id in jobs])
    return _page_answer(request, page, "comparison.html")


@router.post(
    "/links",
    status_code=201,
    summary="An address that opens a page without a token",
    description="Of the report of one job, or of the comparison of several. It ends after ten minutes.",
    responses={
        201: {"model": LinkView, "description": "The address"},
        **refusals(400, 401, 404, 408, 409, 413, 422, 503),
    },
    openapi_extra=json_request("LinkBody"),
)
async def add_link(request: Request, owner: Owner) -> Response:
    body = await read_body(request, shared(request).settings.limits.body_bytes)
    return await run_in_threadpool(_linked, request, owner, body)


def _linked(request: Request, owner: str, body: bytes) -> Response:
    here = shared(request)
    try:
        jobs = LinkBody.model_validate(parse_json(body, "the body")).jobs
    except ValidationError as error:
        raise invalid(error.errors()) from error
    for id in jobs:
        result_of(here, owner, id)
    ticket, expires = here.tickets.issue(owner, jobs)
    path = f"/v1/jobs/{jobs[0]}/report" if len(jobs) == 1 else "/v1/comparison"
    query = [("job", id) for id in jobs if len(jobs) > 1] + [("ticket", ticket)]
    return secret_answer({"url": f"{path}?{urlencode(query)}", "expires_at": time_text(expires)}, 201)


def _drawn(here: Shared, texts: list[str]) -> bytes:
    try:
        return here.renderer.report(texts)
    except NotDrawnError as error:
        raise ApiError(409, "not_drawn", str(error)) from error
    except (BusyError, EndedError) as error:
        raise later(503, "drawing_busy", str(error)) from error


def _kept_page(here: Shared, id: str) -> bytes | None:
    try:
        page = here.folder.report(id).read_bytes()
    except OSError:
        return None
    return page if _DRAWN_BY in page[:_HEAD] else None


def _keep_page(here: Shared, owner: str, id: str, page: bytes) -> None:
    """For the next time; where it cannot be kept it is drawn again."""
    path = here.folder.report(id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page)
    except (MDTreeError, OSError):
        return
    if here.store.job(owner, id) is None:  # deleted while it was drawn
        path.unlink(missing_ok=True)


def _page_answer(request: Request, page: bytes, name: str) -> Response:
    """The page with its own policy as a header too, and in a sandbox."""
    found = _POLICY.search(page[:_HEAD])
    policy = found[1].decode() if found else "default-src 'none'"
    headers = {
        "Content-Security-Policy": f"{policy}; {_ALONE}",
        "Content-Disposition": f'inline; filename="{name}"',
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return answer(request, page, HTML, headers=headers)
