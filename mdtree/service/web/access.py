"""Who asks: a bearer token, or a ticket in the address of a page."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request
from fastapi.security import APIKeyQuery, HTTPBearer

from mdtree.service.tokens import LOCAL
from mdtree.service.web.api_errors import ApiError
from mdtree.service.web.state import shared

ID_PATTERN = "^[0-9a-f]{32}$"

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token of the server's operator. A server on its own machine's address may ask for none.",
)
_ticket = APIKeyQuery(
    name="ticket",
    auto_error=False,
    scheme_name="ticket",
    description="Opens one report or comparison for some minutes: part of the address that POST /v1/links gives.",
)


async def _owner(request: Request) -> str:
    return owner_of(request)


def owner_of(request: Request) -> str:
    """Whose token came with the request.

    Raises
    ------
    ApiError
        401: no token, or nobody's.
    """
    tokens = shared(request).settings.tokens
    if not tokens:
        return _noted(request, LOCAL)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    owner = tokens.owner(token.strip()) if scheme.lower() == "bearer" and token else None
    if owner is None:
        got = "there is no token with this request" if not token else "this token is not known here"
        raise unauthorized(f"{got}; send the header Authorization: Bearer TOKEN with one that the operator gave you")
    return _noted(request, owner)


def _noted(request: Request, owner: str) -> str:
    """The owner, noted for the log of requests."""
    request.state.owner = owner
    return owner


def unauthorized(message: str) -> ApiError:
    """401."""
    return ApiError(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})


def visitor_of(request: Request, jobs: list[str], ticket: str | None) -> str:
    """Whose jobs a page may show: by its ticket if it has one, else by the token.

    Raises
    ------
    ApiError
        401: the ticket has ended or is for other jobs; or as `owner_of`.
    """
    if ticket is None:
        return owner_of(request)
    owner = shared(request).tickets.owner(ticket, jobs)
    if owner is None or not _is_known(request, owner):
        raise unauthorized("this link has ended, or is for another page; open the page from the list of jobs again")
    return _noted(request, owner)


def _is_known(request: Request, owner: str) -> bool:
    """Whether the owner of a ticket still has a token: a ticket does not outlive it."""
    tokens = shared(request).settings.tokens
    return owner in tokens.owner_of.values() if tokens else owner == LOCAL


Owner = Annotated[str, Depends(_owner)]
"""A parameter of every route but those of pages."""

Bearer = [Depends(_bearer)]
"""Declares the token in the OpenAPI document; `Owner` checks it."""

TicketText = Annotated[str | None, Depends(_ticket)]

Id = Annotated[str, Path(pattern=ID_PATTERN, description="32 hexadecimal digits")]

JobIds = Annotated[
    list[Annotated[str, Query(pattern=ID_PATTERN)]],
    Query(alias="job", min_length=2, max_length=20, description="Ids of the jobs, in the order they are shown"),
]
