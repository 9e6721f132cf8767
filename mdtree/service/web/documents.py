"""What the OpenAPI document says beside what the routes declare themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from mdtree import __version__
from mdtree.output_schema import output_schema
from mdtree.service.web.answering import record_schema
from mdtree.service.web.api_models import JobBody, LinkBody

TITLE = "mdtree"

DESCRIPTION = """Why a trained network disappoints, and what to change.

Upload a checkpoint, the same training from another seed and a sample of its data, and ask for a job; or send a record
that `mdtree measure --json` printed, which is answered at once. No code of yours runs here, and nothing that you send
is a path or an address that the server would open.
"""

_BODIES: tuple[type[BaseModel], ...] = (JobBody, LinkBody)
"""Bodies that routes parse themselves, with bounds of their own."""


def json_request(name: str) -> dict[str, Any]:
    """The part of a route's declaration that tells its JSON body, by the name of its schema."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _ref(name)}}}}


def json_of(name: str, description: str) -> dict[str, Any]:
    """The part of a route's declaration that tells an answer, by the name of its schema."""
    return {"description": description, "content": {"application/json": {"schema": _ref(name)}}}


def page_of(description: str) -> dict[str, Any]:
    """The part of a route's declaration that tells a page."""
    return {"description": description, "content": {"text/html": {"schema": {"type": "string"}}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def install_document(app: FastAPI) -> None:
    """Answer /openapi.json with the document of all routes, which is made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=TITLE, version=__version__, description=DESCRIPTION, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in _BODIES:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    schemas["Record"] = record_schema()
    schemas["Diagnosis"] = output_schema("diagnose")["$defs"]["checkpoint"]
    return document
