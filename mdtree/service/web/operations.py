"""What those who run a service ask of it: whether it lives, whether it can take work, and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from mdtree.service.telemetry import CONTENT_TYPE, Telemetry
from mdtree.service.web.access import Bearer, Owner
from mdtree.service.web.api_errors import RETRY_SECONDS, refusals


class Health(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class Ready(BaseModel):
    """Whether the service can take work, and if not, why."""

    status: Literal["ready", "not ready"]
    problems: list[str]


def operations_router(problems: Callable[[], list[str]], telemetry: Telemetry) -> APIRouter:
    """Routes ``/health``, ``/ready`` and ``/metrics``.

    Metrics need a token where there are any: they tell how much is used. Health and readiness never do: what asks for
    them often cannot send one.

    Parameters
    ----------
    problems : function
        What keeps the service from taking work.
    telemetry : Telemetry
    """
    router = APIRouter(tags=["operations"])

    @router.get("/health", summary="Whether the process lives")
    async def health() -> Health:
        return Health(status="alive")

    @router.get(
        "/ready", summary="Whether the service can take work", responses={200: {"model": Ready}, 503: {"model": Ready}}
    )
    def ready() -> JSONResponse:
        found = problems()
        answer = Ready(status="not ready" if found else "ready", problems=found).model_dump()
        return JSONResponse(answer, 503, {"Retry-After": str(RETRY_SECONDS)}) if found else JSONResponse(answer)

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        dependencies=Bearer,
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **refusals(401)},
    )
    def metrics(owner: Owner) -> Response:
        return Response(telemetry.text(), media_type=CONTENT_TYPE)

    return router
