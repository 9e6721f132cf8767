"""The HTTP application: routes under /v1, one form of errors, and what they share."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI

from mdtree import __version__
from mdtree.diagnoser import default_diagnoser, diagnose_record, read_diagnoser
from mdtree.diagnoser_schema import Diagnoser
from mdtree.record import RECORD_METRICS, Metric, Record
from mdtree.service.data_folder import DataFolder
from mdtree.service.drawing.rendering import Renderer
from mdtree.service.settings import ServiceSettings
from mdtree.service.storage.store import Store
from mdtree.service.telemetry import Telemetry
from mdtree.service.web import page, routes_files, routes_jobs, routes_records, routes_reports, routes_server
from mdtree.service.web.api_errors import install_error_handlers
from mdtree.service.web.documents import DESCRIPTION, TITLE, install_document
from mdtree.service.web.operations import operations_router
from mdtree.service.web.state import Shared
from mdtree.service.web.tickets import Tickets, read_secret

_ROUTES = (routes_files, routes_jobs, routes_records, routes_reports, routes_server, page)

_log = logging.getLogger("mdtree.service")


def create_app(
    settings: ServiceSettings,
    store: Store,
    *,
    ready: Callable[[], list[str]] = list,
    telemetry: Telemetry | None = None,
) -> FastAPI:
    """The application. It imports no torch, and opens no file that a client sent.

    Parameters
    ----------
    settings : ServiceSettings
    store : Store
        Of the caller, who closes it.
    ready : function
        What keeps the service from taking work, as sentences (see `mdtree.service.readiness`).
    telemetry : Telemetry, optional
        Where uploads are counted, and what /metrics tells.

    Raises
    ------
    InputError
        The diagnoser or the data folder cannot be used.
    """
    counted = telemetry or Telemetry()
    diagnoser = read_diagnoser(settings.diagnoser) if settings.diagnoser else default_diagnoser()
    shared = Shared(
        settings=settings,
        store=store,
        diagnoser=diagnoser,
        tickets=Tickets(read_secret(DataFolder(settings.data_dir).secret)),
        renderer=Renderer(settings.diagnoser),
        on_upload=counted.upload_bytes.inc,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, shared.renderer.start)
            await anyio.to_thread.run_sync(_warm, diagnoser)
            yield
            await anyio.to_thread.run_sync(shared.renderer.close)

    app = FastAPI(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        # their pages load from other hosts
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.shared = shared
    routers = [*(module.router for module in _ROUTES), operations_router(ready, counted)]
    for router in routers:
        app.include_router(router)
    install_error_handlers(app, [route for router in routers for route in router.routes])
    install_document(app)
    return app


def _warm(diagnoser: Diagnoser) -> None:
    """Diagnose something, so that the first client does not wait for what is imported at the first time."""
    metrics = {name: Metric(1.0, 0.1, 1) for name in RECORD_METRICS}
    for evidence in diagnoser.trees["verdict"]:
        diagnose_record(diagnoser, Record({}, {}, {}, {}, metrics), evidence)
