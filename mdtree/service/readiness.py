"""Whether a service can take work: what a load balancer asks, and what an operator reads when it cannot."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable

from mdtree.service.settings import ServiceSettings
from mdtree.service.storage.store import Store

KEPT_SECONDS = 1.0
"""An answer serves this long: whoever asks often shall not make the disk and the database busy."""

SLOW_SECONDS = 5.0
"""A look that takes longer is a problem itself."""


class Readiness:
    """Sentences about what is wrong, without paths or addresses: anybody may ask.

    Parameters
    ----------
    settings : ServiceSettings
    store : Store
    workers_alive : function
        How many workers run.
    """

    def __init__(self, settings: ServiceSettings, store: Store, workers_alive: Callable[[], int]) -> None:
        self._settings, self._store, self._workers_alive = settings, store, workers_alive
        self._lock = threading.Lock()
        self._found: list[str] = []
        self._looked_at = float("-inf")
        self.stopping = False

    def problems(self) -> list[str]:
        """What keeps the service from taking work; empty when it is ready."""
        stopping = ["the server is stopping"] if self.stopping else []
        if self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        elif time.monotonic() - self._looked_at > SLOW_SECONDS:
            # whoever asks does not wait beside the one who looks: threads are few
            return [*stopping, f"the database or the disk did not answer for {SLOW_SECONDS:g} seconds"]
        return [*stopping, *self._found]

    def _look(self) -> None:
        if time.monotonic() - self._looked_at > KEPT_SECONDS:
            checks = (self._database, self._disk, self._workers)
            self._found = [problem for check in checks if (problem := check())]
            self._looked_at = time.monotonic()

    def _database(self) -> str | None:
        try:
            self._store.check()
        except Exception:
            logging.getLogger("mdtree.service").exception("the database does not answer")
            return "the database does not answer"
        return None

    def _disk(self) -> str | None:
        floor = self._settings.limits.disk_floor_bytes
        try:
            with tempfile.TemporaryFile(dir=self._settings.data_dir) as file:
                file.write(b"ready")
                file.flush()
            free = shutil.disk_usage(self._settings.data_dir).free
        except OSError as error:
            return f"the data directory cannot be written ({error.strerror})"
        if free < floor:
            return f"{free:,} bytes of the disk are free, fewer than the {floor:,} that are kept free"
        return None

    def _workers(self) -> str | None:
        alive, wanted = self._workers_alive(), self._settings.workers
        return None if alive else f"none of {wanted} worker{'s' * (wanted != 1)} runs"
