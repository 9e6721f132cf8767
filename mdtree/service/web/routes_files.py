"""`/v1/files`: uploads."""

from __future__ import annotations

import shutil
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from mdtree.service.web.access import Bearer, Id, Owner
from mdtree.service.web.answers import json_answer
from mdtree.service.web.api_errors import not_found, refusals
from mdtree.service.web.api_models import FileList, FileView, file_view
from mdtree.service.web.state import shared
from mdtree.service.web.uploads import receive_upload

router = APIRouter(prefix="/v1/files", tags=["files"], dependencies=Bearer)

Name = Annotated[str, Query(min_length=1, max_length=1000, description="For people: no path, and no file is opened")]

_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}}}


@router.post(
    "",
    status_code=201,
    summary="Upload a checkpoint or data",
    description="The body is the file itself, of any content type; it is stored as it comes, and opened by a job only.",
    responses={
        201: {
            "model": FileView,
            "description": "Stored",
            "headers": {"Location": {"schema": {"type": "string"}, "required": True}},
        },
        **refusals(400, 401, 408, 413, 422, 429, 503, 507),
    },
    openapi_extra={"requestBody": {"required": True, "content": _BYTES}},
)
async def upload(request: Request, owner: Owner, name: Name) -> Response:
    file = await receive_upload(request, shared(request), owner, name)
    return await run_in_threadpool(json_answer, request, file_view(file), 201, {"Location": f"/v1/files/{file.id}"})


@router.get("", summary="All uploads", responses={200: {"model": FileList}, **refusals(401, 503)})
def list_files(request: Request, owner: Owner) -> Response:
    return json_answer(request, {"files": [file_view(file) for file in shared(request).store.files(owner)]})


@router.get("/{id}", summary="An upload", responses={200: {"model": FileView}, **refusals(401, 404, 422, 503)})
def show_file(request: Request, owner: Owner, id: Id) -> Response:
    file = shared(request).store.file(owner, id)
    if file is None:
        raise not_found("file", id)
    return json_answer(request, file_view(file))


@router.delete(
    "/{id}",
    status_code=204,
    summary="Delete an upload",
    response_class=Response,
    responses={204: {"description": "Deleted"}, **refusals(401, 404, 409, 422, 503)},
)
def delete_file(request: Request, owner: Owner, id: Id) -> Response:
    # the row first: a file without one is removed at the next start, a row without its file would fail a job
    if not shared(request).store.delete_file(owner, id):
        raise not_found("file", id)
    shutil.rmtree(shared(request).folder.files / id, ignore_errors=True)
    return Response(status_code=204)
