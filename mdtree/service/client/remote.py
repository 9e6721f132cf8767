"""What a client holds of a service: files that it sent, jobs as they stood, diagnoses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from mdtree.errors import InputError
from mdtree.service.jobs import ENDS, Progress
from mdtree.specification import shown

Told = Callable[[Progress], object]
"""Is called with what is going on: ``uploading``, ``queued``, then the stages of the job."""


class Saveable(Protocol):
    """A `mdtree.Record` or a `mdtree.Diagnosis`."""

    def to_dict(self) -> dict[str, Any]: ...


class Reporter(Protocol):
    """Where a report comes from: a client."""

    def report(self, job: str, path: str | os.PathLike[str]) -> Path: ...


@dataclass(frozen=True)
class RemoteFile:
    """A file that the service has: of `Client.upload`, to be used in several jobs.

    Attributes
    ----------
    id, name, sha256 : str
    size : int
        Bytes.
    """

    id: str
    name: str
    size: int
    sha256: str


Source = str | os.PathLike[str] | RemoteFile
"""A path here, or a file that the service has already."""


@dataclass(frozen=True)
class Details:
    """What few jobs need to say.

    Attributes
    ----------
    init : path or RemoteFile, optional
        What training started from, where that were no fresh weights.
    weights : str, optional
        Which weights to take, where a file holds several.
    data_options : dict of str to str
        Options of a file of data, as behind the ``?`` of ``npz:FILE?train=4000``.
    data_checked : bool
        The data are right, even if the network does not answer on them as one that was trained on them.
    precision : float, optional
        Standard error of the logarithm at which no more samples are added.
    """

    init: Source | None = None
    weights: str | None = None
    data_options: Mapping[str, str] = field(default_factory=dict)
    data_checked: bool = False
    precision: float | None = None


@dataclass(frozen=True)
class RemoteJob:
    """A job as it stood when the service was asked.

    Attributes
    ----------
    id, name : str
    state : str
        ``queued``, ``running``, ``done``, ``failed`` or ``cancelled``.
    progress : Progress
        Stage, words, and the share done; the stage is the state where it does not run.
    values : dict
        All that the service tells of it: times, request, summary, failure ...
    """

    id: str
    name: str
    state: str
    progress: Progress
    values: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RemoteJob:
        """A job out of the service's JSON."""
        state, running = str(values["state"]), values.get("progress")
        if running is not None:
            progress = Progress(str(running["stage"]), str(running["text"]), float(running["share"]))
        else:
            before = values.get("position")
            progress = Progress(state, "" if before is None else f"{before} before it", float(state in ENDS))
        return cls(str(values["id"]), str(values["name"]), state, progress, values)

    @property
    def ended(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self.state in ENDS

    @property
    def verdict(self) -> str | None:
        """None where there is none (yet)."""
        summary = self.values.get("summary")
        return None if summary is None else str(summary["verdict"])

    @property
    def files(self) -> tuple[str, ...]:
        """The ids of the files it was asked with."""
        request = self.values.get("request") or {}
        data = request.get("data") or {}
        named = (request.get("checkpoint"), *request.get("siblings", ()), request.get("init"), data.get("file"))
        return tuple(one for one in named if one is not None)


@dataclass(frozen=True)
class Result:
    """A diagnosis that a service reached.

    Attributes
    ----------
    job : str
        The id of its job, which the service keeps for some time.
    json : str
        What `mdtree diagnose --json` prints, without its line end.
    """

    job: str
    json: str = field(repr=False)
    _service: Reporter = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<Result of job {self.job}: {self.verdict}, {self.confidence:.0%}>"

    @cached_property
    def _values(self) -> dict[str, Any]:
        return dict(json.loads(self.json))

    def to_dict(self) -> dict[str, Any]:
        """The record and the diagnosis as JSON-able values, as of `mdtree.Diagnosis.to_dict`."""
        return dict(self._values)

    @property
    def verdict(self) -> str:
        """A failure mode, `healthy` or `undetermined`."""
        return str(self._values["verdict"])

    @property
    def confidence(self) -> float:
        """The verdict's probability."""
        return float(self._values["confidence"])

    @property
    def advice(self) -> str | None:
        """What to try, in words; None where nothing is advised."""
        advised = self._values["ranking"][0]["advice"]
        return None if advised is None or self.verdict == "undetermined" else str(advised["text"])

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the report, one self-contained HTML page."""
        return self._service.report(self.job, path)


def job_id(job: RemoteJob | str) -> str:
    """The id of a job: random digits, and nothing else into an address."""
    id = job if isinstance(job, str) else job.id
    if not (id.isascii() and id.isalnum()):
        raise InputError(f"{shown(id)!r} is no id of a job", "the id that submit or jobs gave")
    return id


def job_path(job: RemoteJob | str) -> str:
    """Where a job stands at its service."""
    return f"/v1/jobs/{job_id(job)}"
