"""The page of the service: its files out of the package, each with an ETag; no build step, nothing from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Request, Response

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"

CACHING = "no-cache"
"""Kept by browsers, but asked for again before each use: a new version of the server shows its own page at once."""


@dataclass(frozen=True)
class PageFile:
    """A file of the page: its bytes, its content type, and the digest of its bytes as an entity tag."""

    body: bytes
    content_type: str
    etag: str


@cache
def page_files() -> dict[str, PageFile]:
    """All files of the page by their names; read once."""
    found = {}
    for entry in (files("mdtree.service") / "page").iterdir():
        suffix = f".{entry.name.rpartition('.')[2]}"
        if suffix in CONTENT_TYPES and entry.is_file():
            body = entry.read_bytes()
            found[entry.name] = PageFile(body, CONTENT_TYPES[suffix], f'"{sha256(body).hexdigest()[:32]}"')
    return found


router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
def index(request: Request) -> Response:
    """The page."""
    return _answer(request, INDEX)


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
def static(request: Request, name: str) -> Response:
    """A module, the style sheet or the icon of the page; 404 for any other name, which is looked up, never opened."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    file = page_files().get(name)
    if file is None:
        raise HTTPException(404, "no such file of the page")
    headers = {"ETag": file.etag, "Cache-Control": CACHING}
    if _known(request.headers.get("if-none-match", ""), file.etag):
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.content_type, headers=headers)


def _known(held: str, etag: str) -> bool:
    """Whether one of the entity tags of ``If-None-Match`` is this one (RFC 9110, 13.1.2: compared weakly)."""
    tags = {tag.strip().removeprefix("W/") for tag in held.split(",")}
    return etag in tags or "*" in tags
