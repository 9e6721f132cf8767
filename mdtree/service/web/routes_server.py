"""`/v1/server` and `/v1/zoo-map`: what a client, and the page, need to know beforehand."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from landscape import Protocol
from mdtree import __version__
from mdtree.service.drawing.rendering import BusyError, EndedError, NotDrawnError
from mdtree.service.registry import BUILT_IN_DATA, BUILT_IN_NETWORKS
from mdtree.service.web.access import Bearer, Owner
from mdtree.service.web.answers import JSON, answer, json_answer
from mdtree.service.web.api_errors import ApiError, later, refusals
from mdtree.service.web.api_models import ServerView
from mdtree.service.web.state import shared

router = APIRouter(prefix="/v1", tags=["server"], dependencies=Bearer)

IfNoneMatch = Annotated[str, Header(alias="If-None-Match", max_length=1000)]

_TAG = {"headers": {"ETag": {"schema": {"type": "string"}, "required": True}}}


@router.get(
    "/server", summary="What is registered and allowed", responses={200: {"model": ServerView}, **refusals(401)}
)
def show_server(request: Request, owner: Owner) -> Response:
    here = shared(request)
    settings = here.settings
    limits, registry = settings.limits, settings.registry
    values = {
        "version": __version__,
        "diagnoser": here.diagnoser.name,
        "protocol": Protocol().digest(),
        "networks": [*registry.networks, *BUILT_IN_NETWORKS],
        "data_sets": [*registry.data_sets, *BUILT_IN_DATA],
        "limits": {
            "file_bytes": limits.file_bytes,
            "body_bytes": limits.body_bytes,
            "siblings": limits.siblings,
            "waiting_jobs": limits.waiting_jobs_per_owner,
            "kept_jobs": limits.kept_jobs_per_owner,
            "stored_bytes": limits.stored_bytes_per_owner,
        },
        "retention_seconds": int(settings.retention.total_seconds()),
    }
    return json_answer(request, values)


@router.get(
    "/zoo-map",
    summary="The background of the phase diagram",
    description="Networks of the reference zoos in the plane of temperature and load, the regions of their causes, and "
    "how the two metrics of a job become its place.",
    responses={
        200: {**_TAG, "content": {"application/json": {"schema": {"type": "object"}}}},
        304: {**_TAG, "description": "As the client has it"},
        **refusals(401, 404, 422, 503),
    },
)
def show_zoo_map(request: Request, owner: Owner, known: IfNoneMatch = "") -> Response:
    body = _zoo_map(request)
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    tags = {one.strip().removeprefix("W/") for one in known.split(",")}
    if tag in tags or "*" in tags:
        return Response(status_code=304, headers={**headers, "Vary": "Accept-Encoding"})
    return answer(request, body, JSON, headers=headers)


def _zoo_map(request: Request) -> bytes:
    try:
        return shared(request).renderer.zoo_map()
    except NotDrawnError as error:
        raise ApiError(404, "no_map", str(error)) from error
    except (BusyError, EndedError) as error:
        raise later(503, "drawing_busy", str(error)) from error
