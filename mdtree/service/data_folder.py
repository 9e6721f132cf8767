"""The folder of a service: where its uploads, its work and its reports lie."""

from __future__ import annotations

from pathlib import Path

from mdtree.service.display_names import suffix_of
from mdtree.service.jobs import StoredFile


class DataFolder:
    """Paths inside the data directory; every name in them is made here, none by a client.

    Attributes
    ----------
    root : Path
    incoming : Path
        Uploads that are not whole yet; emptied when a service starts.
    files : Path
        A folder for each upload, so that none lies beside another.
    work : Path
        A folder for each running job; emptied when a service starts.
    reports : Path
        Pages drawn before; any of them may be removed.
    secret : Path
        32 random bytes that sign links to reports.
    """

    def __init__(self, root: Path) -> None:
        root = root.absolute()  # children have other current directories
        self.root = root
        self.incoming = root / "incoming"
        self.files = root / "files"
        self.work = root / "work"
        self.reports = root / "reports"
        self.secret = root / "secret"
        self.server_lock = root / "server.lock"
        self.workers_lock = root / "workers.lock"

    @property
    def database(self) -> str:
        """The address of the embedded database."""
        return f"sqlite:///{self.root.resolve() / 'mdtree.sqlite'}"

    def upload(self, file: StoredFile) -> Path:
        """Where an upload lies: under its random id, with no more of the client's name than its suffix."""
        return self.files / file.id / f"upload{suffix_of(file.name)}"

    def report(self, job: str) -> Path:
        """The page of a job."""
        return self.reports / f"{job}.html"
