"""Refusals over HTTP: one JSON form for all of them, ``{"error": {"code": ..., "message": ...}}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, compile_path

from mdtree.errors import InputError, MDTreeError, ResourceError
from mdtree.report_words import visible
from mdtree.service.storage.store_errors import (
    FileInUse,
    KeyReused,
    QueueFull,
    QuotaExceeded,
    RunningJob,
    StoreFull,
    StoreRefusal,
    StoreUnavailable,
    UnknownFile,
    UnknownJob,
)

RETRY_SECONDS = 10
"""After which a client may ask again where something was full or away."""

_log = logging.getLogger("mdtree.service")


class ErrorText(BaseModel):
    """A refusal: a word for programs, a sentence for people (what was got, expected, how to mend it), and the field of
    the request it is about, where it is about one."""

    model_config = ConfigDict(extra="forbid")

    code: str
    message: str
    field: str | None = None


class ErrorBody(BaseModel):
    """What every refusal is."""

    model_config = ConfigDict(extra="forbid")

    error: ErrorText


class ApiError(Exception):
    """A request that is refused.

    Parameters
    ----------
    status : int
        Of HTTP.
    code : str
        For programs.
    message : str
        For people.
    headers : mapping, optional
    field : str, optional
        Of the request, that is not as it should be.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field
        self.headers = dict(headers or {})


def later(status: int, code: str, message: str) -> ApiError:
    """A refusal that may not stand in a while."""
    return ApiError(status, code, message, {"Retry-After": str(RETRY_SECONDS)})


def storage_full() -> ApiError:
    """507."""
    return later(507, "storage_full", "the server has too little space left; try again later, or tell its operator")


def not_found(what: str, id: str) -> ApiError:
    """Nothing of this id is there, or it is somebody else's, which is not told apart."""
    return ApiError(404, "not_found", f"there is no {what} {id}; it may have been deleted or have expired")


_REFUSED: dict[type[StoreRefusal], tuple[int, str]] = {
    QueueFull: (429, "queue_full"),
    QuotaExceeded: (429, "quota_exceeded"),
    UnknownFile: (422, "unknown_file"),
    UnknownJob: (404, "not_found"),
    KeyReused: (422, "idempotency_key_reused"),
    FileInUse: (409, "file_in_use"),
    RunningJob: (409, "job_running"),
}

_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}

_PLACES = frozenset({"body", "query", "path", "header"})

_SENTENCES = {
    404: "there is nothing at this address; what there is stands in /openapi.json",
    405: "this address does not answer that method; the header Allow names those it does",
}


def install_error_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer everything that a handler may raise in the one form; `routes` are all that the application has."""
    methods: dict[str, set[str]] = {}
    for route in routes:
        if isinstance(route, Route | APIRoute):
            methods.setdefault(route.path, set()).update(route.methods or ())
    app.state.methods = [(compile_path(path)[0], sorted(allowed)) for path, allowed in methods.items()]
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


def error_response(error: ApiError) -> JSONResponse:
    """The answer of a refusal."""
    headers = {"Cache-Control": "no-store", **error.headers}
    body = {"error": {"code": error.code, "message": error.message, "field": error.field}}
    return JSONResponse(body, error.status, headers=headers)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _by_store(request: Request, error: Exception) -> JSONResponse:
    status, code = _REFUSED.get(type(error), (409, "refused"))  # type: ignore[arg-type]
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 429 else {}
    return error_response(ApiError(status, code, str(error), headers))


async def _input(request: Request, error: Exception) -> JSONResponse:
    return error_response(ApiError(422, "invalid", str(error)))


async def _resources(request: Request, error: Exception) -> JSONResponse:
    return error_response(storage_full())


async def _database(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StoreUnavailable)
    _log.error("the database failed: %s", error.detail or error)
    if isinstance(error, StoreFull):
        return error_response(storage_full())
    return error_response(later(503, "database_unavailable", "the server's database does not answer; try again later"))


async def _by_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "_"))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
    message = _SENTENCES.get(error.status_code, str(error.detail))
    return error_response(ApiError(error.status_code, code, message, headers))


async def _not_as_declared(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(invalid(error.errors()))


async def _defect(request: Request, error: Exception) -> JSONResponse:
    message = "the server failed at this; its log says where: it would help to report it"
    return error_response(ApiError(500, "internal", message))


_HANDLERS: dict[type[Exception], Any] = {
    ApiError: _refused,
    StoreRefusal: _by_store,
    InputError: _input,
    ResourceError: _resources,
    StoreUnavailable: _database,
    HTTPException: _by_framework,
    RequestValidationError: _not_as_declared,
    MDTreeError: _defect,
    Exception: _defect,
}


def invalid(errors: Any) -> ApiError:
    """422 for the first thing that is not as declared, with where it stands."""
    first = errors[0]
    place = [str(part) for part in first["loc"]]
    field = ".".join(place[1:] if place and place[0] in _PLACES else place) or None
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    text = visible(f"{field or 'the body'}: {first['msg'][:1].lower()}{first['msg'][1:]}{more}")
    return ApiError(422, "invalid", text, field=visible(field) if field else None)


def _methods(request: Request) -> list[str]:
    """All methods of an address: the framework tells those of its first route alone."""
    path = request.url.path
    return next((allowed for pattern, allowed in request.app.state.methods if pattern.match(path)), ["GET", "HEAD"])


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The part of a route's declaration that lists how it may refuse."""
    return {status: {"model": ErrorBody, "description": HTTPStatus(status).phrase} for status in statuses}
