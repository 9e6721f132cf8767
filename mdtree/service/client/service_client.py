"""The Python client of a service: a checkpoint in, a diagnosis back.

>>> from mdtree.service.client import Client
>>> with Client("http://127.0.0.1:8080") as service:  # doctest: +SKIP
...     service.diagnose("run7.pt", siblings=["run8.pt"]).verdict
'temperature_too_high'

Of other packages it imports httpx alone (``pip install 'mdtree-diagnosis[client]'``).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtree.errors import InputError, MDTreeError, ResourceError
from mdtree.files import regular_file, write_atomically
from mdtree.service.client.connection import Connection, Request
from mdtree.service.client.files import Parts, data_file, size_text
from mdtree.service.client.remote import (
    Details,
    RemoteFile,
    RemoteJob,
    Result,
    Saveable,
    Source,
    Told,
    job_id,
    job_path,
)
from mdtree.service.jobs import Blame, State

if TYPE_CHECKING:
    import httpx

__all__ = ["Client", "Details", "RemoteFile", "RemoteJob", "Result"]

TOKEN_VARIABLE = "MDTREE_TOKEN"

FIRST_POLL, LONGEST_POLL = 0.1, 2.0
"""Seconds between two questions how a job stands, growing by half."""

PAGE = 100
"""Jobs that are fetched at a time."""

_KINDS: Mapping[str, type[MDTreeError]] = {Blame.INPUT: InputError, Blame.RESOURCES: ResourceError}


class Client:
    """A service of `mdtree serve`.

    Connection errors, restarts of the server and a full queue are waited out for `patience` seconds. A job or a record
    that is sent again then carries the same idempotency key: it is accepted once.

    Every method raises `InputError` where what was given cannot be used, with the server's own sentence where the
    server refused it; `ResourceError` where nothing answers, the queue stays full or the server's disk is; and
    `MDTreeError` for a defect of the server.

    Parameters
    ----------
    address : str
        ``http://HOST:PORT`` or ``https://HOST``.
    token : str, optional
        By default the environment's MDTREE_TOKEN; a service on this machine may need none. It is sent to this host
        alone: no redirect is followed.
    patience : float
        Seconds.
    """

    def __init__(self, address: str, token: str | None = None, *, patience: float = 60.0) -> None:
        self._connection = Connection(address, token or os.environ.get(TOKEN_VARIABLE) or None, patience)
        self._largest: int | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._connection.close()

    def server(self) -> dict[str, Any]:
        """Version, diagnoser, limits, and the names of networks and data sets that jobs may use."""
        return self._values("/v1/server")

    def diagnose(
        self,
        checkpoint: Source,
        siblings: Sequence[Source] = (),
        data: Source | None = None,
        network: str | None = None,
        *,
        details: Details | None = None,
        progress: Told | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Upload, queue, wait, and fetch the diagnosis: `submit`, `wait` and `result` in one call.

        The files that it sent are deleted at the end; job and diagnosis are kept.
        """
        job = self.submit(checkpoint, siblings, data, network, details=details, progress=progress)
        ended = self.wait(job, progress, timeout)
        more = details or Details()
        given = {one.id for one in (checkpoint, *siblings, data, more.init) if isinstance(one, RemoteFile)}
        for file in {*ended.files} - given:
            # another job of this client may use it by now, or it has expired
            with contextlib.suppress(MDTreeError):
                self._delete(f"/v1/files/{file}")
        return self.result(ended)

    def upload(self, path: str | os.PathLike[str], progress: Told | None = None) -> RemoteFile:
        """Send a file in parts; nothing of it is kept in memory.

        The service keeps an upload that no job uses for a day.
        """
        parts = Parts(regular_file(path), progress)
        if self._largest is None:
            # asked before anything is sent: a wrong token, or a file too large, are then told at once
            self._largest = int(self.server()["limits"]["file_bytes"])
        if parts.size > self._largest:
            raise InputError(f"{parts.file} has {size_text(parts.size)}", f"at most {size_text(self._largest)}")
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(parts.size)}
        request = Request("POST", "/v1/files", (("name", parts.file.name),), parts.read, headers)
        answer = self._connection.values(request)
        stored = RemoteFile(str(answer["id"]), str(answer["name"]), int(answer["size"]), str(answer["sha256"]))
        if stored.sha256 != parts.sha256:
            raise ResourceError(f"{parts.file} did not arrive as it was sent", "", "send it again")
        return stored

    def submit(
        self,
        checkpoint: Source,
        siblings: Sequence[Source] = (),
        data: Source | None = None,
        network: str | None = None,
        *,
        details: Details | None = None,
        progress: Told | None = None,
    ) -> RemoteJob:
        """Upload what the service does not have yet, and queue a job.

        Parameters
        ----------
        checkpoint : path or RemoteFile
            One file, not a folder.
        siblings : sequence of path or RemoteFile
            The same training from other seeds.
        data : path, RemoteFile or str, optional
            An ``.npz`` or ``.safetensors`` file to be sent, with options as ``npz:FILE?train=4000``; or the name of a
            data set that the server knows (see `server`). None where the checkpoint names such a one itself.
        network : str, optional
            A network that the server knows: ``mlp?width=32`` or a registered name. None where the checkpoint tells.
        details : Details, optional
        progress : function of `mdtree.service.jobs.Progress`, optional
            Is called with ``stage``, ``text`` and ``share`` (0...1) whenever they change.
        """
        more = details or Details()
        body = {
            "checkpoint": self._id(checkpoint, progress),
            "siblings": [self._id(one, progress) for one in _several(siblings)],
            "init": None if more.init is None else self._id(more.init, progress),
            "data": self._data(data, more.data_options, progress),
            "architecture": network,
            "weights": more.weights,
            "data_checked": more.data_checked,
            "precision": more.precision,
        }
        return RemoteJob.of(self._connection.values(_once("/v1/jobs", json.dumps(body).encode())))

    def job(self, job: RemoteJob | str) -> RemoteJob:
        """How a job stands."""
        return RemoteJob.of(self._values(job_path(job)))

    def jobs(
        self, *, state: str | None = None, verdict: str | None = None, kind: str | None = None, name: str | None = None
    ) -> Iterator[RemoteJob]:
        """The jobs of this token, newest first, fetched as they are asked for; those alone that are as said."""
        asked = {"state": state, "verdict": verdict, "kind": kind, "name": name, "limit": str(PAGE)}
        query = [(key, value) for key, value in asked.items() if value is not None]
        following: tuple[tuple[str, str], ...] = ()
        while True:
            page = self._values("/v1/jobs", (*query, *following))
            yield from map(RemoteJob.of, page["jobs"])
            if page["next"] is None:
                return
            following = (("before", str(page["next"])),)

    def wait(self, job: RemoteJob | str, progress: Told | None = None, timeout: float | None = None) -> RemoteJob:
        """The job when it has ended, however it did.

        Raises
        ------
        ResourceError
            Also where it has not after `timeout` seconds; it goes on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause, told = FIRST_POLL, None
        while True:
            now = self.job(job)
            if progress is not None and now.progress != told:
                told = now.progress
                progress(told)
            if now.ended:
                return now
            left = pause if end is None else end - time.monotonic()
            if left <= 0:
                got = f"job {now.id} is {now.state} after {timeout:g} s"
                raise ResourceError(got, "", f"it goes on; wait({now.id!r}) waits for it again")
            time.sleep(min(pause, left))
            pause = min(1.5 * pause, LONGEST_POLL)

    def result(self, job: RemoteJob | str) -> Result:
        """The diagnosis of a job that is done.

        Raises
        ------
        InputError
            It has not ended, was cancelled, or failed by what was sent.
        ResourceError
            It took more memory or time than the server allows.
        MDTreeError
            It failed by the server's fault, or ended its process twice.
        """
        now = self.job(job)
        if now.state == State.FAILED:
            failure = now.values["failure"]
            raise _KINDS.get(failure["blame"], MDTreeError)(failure["message"])
        if now.state != State.DONE:
            raise InputError(f"job {now.id} is {now.state}", "one that is done")
        return Result(now.id, self._get(f"{job_path(now)}/result").text.removesuffix("\n"), self)

    def diagnose_record(self, record: Saveable | Mapping[str, Any] | str | os.PathLike[str]) -> Result:
        """The diagnosis of what was measured before, at once.

        Parameters
        ----------
        record : Record, dict or path
            Of `mdtree.measure`; or the JSON of `mdtree measure`, as a dict or a file.
        """
        if isinstance(record, (str, os.PathLike)):
            body = regular_file(record).read_bytes()
        else:
            body = json.dumps(dict(record) if isinstance(record, Mapping) else record.to_dict()).encode()
        answer = self._connection.send(_once("/v1/records", body))
        return Result(answer.headers["Location"].rpartition("/")[2], answer.text.removesuffix("\n"), self)

    def report(self, job: RemoteJob | str, path: str | os.PathLike[str]) -> Path:
        """Write the report of a job that is done, one self-contained HTML page."""
        return write_atomically(path, self._get(f"{job_path(job)}/report").content)

    def comparison(self, jobs: Sequence[RemoteJob | str], path: str | os.PathLike[str]) -> Path:
        """Write one page that compares the reports of several jobs."""
        query = tuple(("job", job_id(job)) for job in jobs)
        return write_atomically(path, self._get("/v1/comparison", query).content)

    def cancel(self, job: RemoteJob | str) -> RemoteJob:
        """Ask a job to end: at once where it is queued, within a second or two where it runs; the job as it is now."""
        return RemoteJob.of(self._connection.values(Request("POST", f"{job_path(job)}/cancel")))

    def delete(self, what: RemoteJob | RemoteFile | str) -> None:
        """Delete an ended job (also by its id) with its diagnosis, a queued one, or a file that no job waits for."""
        self._delete(f"/v1/files/{what.id}" if isinstance(what, RemoteFile) else job_path(what))

    def _get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> httpx.Response:
        return self._connection.send(Request("GET", path, tuple(query)))

    def _values(self, path: str, query: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        return self._connection.values(Request("GET", path, tuple(query)))

    def _delete(self, path: str) -> None:
        self._connection.send(Request("DELETE", path))

    def _id(self, source: Source, progress: Told | None) -> str:
        return source.id if isinstance(source, RemoteFile) else self.upload(source, progress).id

    def _data(self, data: Source | None, options: Mapping[str, str], progress: Told | None) -> dict[str, Any] | None:
        if data is None:
            return None
        if isinstance(data, str):
            file = data_file(data)
            if file is None:
                return {"name": data}
            data, options = Path(file.target), {**file.options, **options}
        return {"file": self._id(data, progress), "options": dict(options)}


def _once(path: str, body: bytes) -> Request:
    """JSON that is accepted once, however often it is sent."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(16)}
    return Request("POST", path, body=body, headers=headers)


def _several(siblings: Sequence[Source]) -> Sequence[Source]:
    if isinstance(siblings, (str, os.PathLike, RemoteFile)):
        raise InputError(f"siblings={siblings!r}", "several", "put it into a list")
    return siblings
