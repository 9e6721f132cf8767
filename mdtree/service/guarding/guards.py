"""Everything between the socket and the application, in its order."""

from __future__ import annotations

from starlette.types import ASGIApp

from mdtree.service.guarding.hosts import HostGuard, Hosts
from mdtree.service.guarding.origins import OriginGuard
from mdtree.service.guarding.request_log import RequestGuard
from mdtree.service.guarding.sizes import SizeGuard
from mdtree.service.settings import ServiceSettings
from mdtree.service.telemetry import Telemetry


def guarded(app: ASGIApp, settings: ServiceSettings, port: int, telemetry: Telemetry) -> ASGIApp:
    """The application behind its guards.

    From the outside: request id, headers, log and metrics; the name of this server; the origin of what changes
    something; the size of bodies. What a guard refuses passes those outside it, so that it is logged and measured.

    Parameters
    ----------
    app : ASGI application
    settings : ServiceSettings
    port : int
        Where it listens, which `settings` may have left open.
    telemetry : Telemetry
    """
    hosts = Hosts(settings.host, port, settings.allowed_hosts)
    inner = SizeGuard(app, settings.limits.body_bytes)
    return RequestGuard(HostGuard(OriginGuard(inner), hosts), telemetry)
