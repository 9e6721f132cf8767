"""Everything a service keeps in its database."""

from __future__ import annotations

from mdtree.service.storage.admission import Admission
from mdtree.service.storage.file_store import FileStore
from mdtree.service.storage.job_queue import JobQueue, Standing

__all__ = ["Standing", "Store"]


class Store(FileStore, Admission, JobQueue):
    """Uploads, jobs, answers and the queue, in SQLite or PostgreSQL; used by the server and by every worker at once.

    Each method is one transaction; all are safe for threads. Times are aware, in UTC. Everything but construction may
    raise `StoreUnavailable` when the database is away, full or read-only; the next call tries again by itself.

    A child made by fork is refused (see `Database`); one made by spawn opens a store of its own.
    """
