"""Why the store refuses what it is asked, and what it says when its database is away."""

from __future__ import annotations

from mdtree.errors import MDTreeError, ResourceError


class StoreRefusal(MDTreeError):  # noqa: N818 -- it is no error of the store
    """Base of what the store refuses although it works; nothing was changed."""


class QueueFull(StoreRefusal):
    """As many jobs wait as may wait, of this owner or of all."""


class QuotaExceeded(StoreRefusal):
    """An owner keeps as many jobs or as many bytes as he may."""


class UnknownFile(StoreRefusal):
    """A job names a file that its owner has not, or no longer."""


class UnknownJob(StoreRefusal):
    """A page of jobs is asked for after a job that its owner has not, or no longer."""


class FileInUse(StoreRefusal):
    """A job that has not ended names the file."""


class KeyReused(StoreRefusal):
    """An idempotency key came with another request before."""


class RunningJob(StoreRefusal):
    """A running job cannot be deleted."""


class StoreUnavailable(ResourceError):  # noqa: N818 -- a state of the database
    """The database does not answer, or cannot be written to.

    Attributes
    ----------
    detail : str
        What the database said: for logs, since it may name hosts and paths.
    """

    def __init__(self, got: str, expected: str = "", mend: str = "", detail: str = "") -> None:
        super().__init__(got, expected, mend)
        self.detail = detail


class StoreFull(StoreUnavailable):
    """The disk of the database is full."""
