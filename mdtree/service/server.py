"""A service from its start to its end: sockets, database, workers, HTTP, signals."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from mdtree.errors import InputError, ResourceError
from mdtree.service.data_folder import DataFolder
from mdtree.service.guarding.guards import guarded
from mdtree.service.guarding.hosts import is_loopback
from mdtree.service.guarding.http_protocol import GuardedProtocol
from mdtree.service.guarding.listening import address_of, listen
from mdtree.service.guarding.sizes import HEAD_BYTES
from mdtree.service.logs import log_as_json
from mdtree.service.readiness import Readiness
from mdtree.service.settings import ServiceSettings
from mdtree.service.storage.store import Store
from mdtree.service.telemetry import Telemetry
from mdtree.service.token_file import HOW_TO_MAKE_ONE
from mdtree.service.web.app import create_app
from mdtree.service.work.supervisor import Supervisor

INTERRUPTED = 130
KEEP_ALIVE_SECONDS = 10
_M_ARENA_MAX = -8
"""Of mallopt(3)."""

_log = logging.getLogger("mdtree.service")


def serve(settings: ServiceSettings, grace_seconds: float = 30.0) -> int:
    """Run a service until a signal ends it.

    Its address is printed on standard output when it takes requests. SIGTERM and SIGINT end it gracefully: it stops
    listening, answers the requests it has, lets running jobs end and puts back into the queue those that do not; a
    second signal ends it at once, which loses no job either.

    Parameters
    ----------
    settings : ServiceSettings
    grace_seconds : float
        For requests and jobs when it ends.

    Returns
    -------
    int
        The exit code: 0, or 130 after SIGINT.

    Raises
    ------
    InputError
        Others can reach its address and there is no token; the address, the data directory or the database cannot be
        used.
    ResourceError
        The disk of the data directory is full.
    """
    check_reach(settings)
    prepare_data_dir(settings)
    sockets = listen(settings.host, settings.port)
    # from here on this process is the service's alone
    os.umask(0o077)
    _share_arenas()
    log_as_json()
    try:
        store = Store(settings.database or DataFolder(settings.data_dir).database)
        try:
            return _run(settings, store, sockets, grace_seconds)
        finally:
            store.close()
    finally:
        for one in sockets:
            one.close()


def _share_arenas() -> None:
    """Let all threads of this process take memory from two pools, where the C library is the GNU one.

    It gives each thread a pool of its own otherwise, eight for each core, and each keeps the most it ever held.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)


def check_reach(settings: ServiceSettings) -> None:
    """Refuse a service that others can reach and that asks nobody who he is.

    Raises
    ------
    InputError
        Such a service; says how to make a token.
    """
    if not settings.tokens and not is_loopback(settings.host):
        raise InputError(
            f"others can reach {settings.host}, and there is no token",
            "--tokens FILE or MDTREE_TOKEN on an address that is not this machine's own",
            f"make a token with {HOW_TO_MAKE_ONE}",
        )


def prepare_data_dir(settings: ServiceSettings) -> None:
    """Make the data directory, for its owner alone, and see that it can be written.

    Raises
    ------
    InputError
        It cannot be made or written.
    ResourceError
        Its disk is full.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        trial = folder / f"writable-{os.getpid()}"
        trial.write_bytes(b"mdtree")
        trial.unlink()
    except OSError as error:
        if error.errno in (28, 122):
            raise ResourceError(f"the disk of {folder} is full", "", "--data-dir on another one") from error
        raise InputError(
            f"the data directory {folder} cannot be used ({error.strerror})", "a folder of your own", "--data-dir DIR"
        ) from error


def _run(settings: ServiceSettings, store: Store, sockets: list[socket.socket], grace_seconds: float) -> int:
    port = sockets[0].getsockname()[1]
    supervisor = Supervisor(settings, store)
    telemetry = Telemetry()
    readiness = Readiness(settings, store, supervisor.alive)
    application = create_app(settings, store, ready=readiness.problems, telemetry=telemetry)
    telemetry.watch(store, supervisor, settings.data_dir)
    configuration = _configuration(guarded(application, settings, port, telemetry), settings, telemetry, grace_seconds)
    server = _Server(configuration, address_of(settings.host, port), readiness, supervisor, grace_seconds)
    with server.signals():
        supervisor.start()
        try:
            server.run(sockets)
        finally:
            supervisor.stop(0)
    _log.info("stopped")
    return server.exit_code


def _configuration(
    application: ASGIApp, settings: ServiceSettings, telemetry: Telemetry, grace_seconds: float
) -> uvicorn.Config:
    protocol: Any = partial(GuardedProtocol, limits=settings.limits, on_refusal=telemetry.refused_connection)
    graceful: Any = grace_seconds
    return uvicorn.Config(
        application,
        loop="asyncio",
        http=protocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        # whoever can set these headers chooses what is logged and compared: a proxy in front needs none of them here
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=graceful,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )


class _Server(uvicorn.Server):
    """uvicorn's server, with the signals, the exit code and the end of the workers in one hand."""

    def __init__(
        self,
        configuration: uvicorn.Config,
        address: str,
        readiness: Readiness,
        supervisor: Supervisor,
        grace_seconds: float,
    ) -> None:
        super().__init__(configuration)
        self._address, self._readiness = address, readiness
        self._supervisor, self._grace_seconds = supervisor, grace_seconds
        self.exit_code = 0

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Signals end the server from before its workers are started until they have ended."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # uvicorn would raise them once more when it has ended

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.should_exit:
            # at once: workers die with this process, and the next start finds their jobs
            os._exit(INTERRUPTED)
        self.exit_code = INTERRUPTED if number == signal.SIGINT else 0
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _log.info("listening at %s", self._address)
        with contextlib.suppress(OSError):
            # whoever started it may have closed its end
            print(self._address, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _log.info("stopping")
        self._readiness.stopping = True
        # requests and jobs share the time to end
        stopped = asyncio.get_running_loop().run_in_executor(None, self._supervisor.stop, self._grace_seconds)
        await super().shutdown(sockets)
        await stopped
