"""What requests hold and answers look like: read from requests, and told in the OpenAPI document."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mdtree.service.jobs import Blame, DataRequest, Job, JobRequest, Kind, State, StoredFile
from mdtree.service.web.access import ID_PATTERN

FileId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=500)]
"""Text on one line."""
OptionName = Annotated[str, StringConstraints(pattern="^[a-z_]{1,40}$")]
OptionValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,;:+@/ -]{1,200}$")]
"""Without the signs that part options in a specification."""

MOST_LINKED = 20
"""Jobs of one comparison."""


class Asked(BaseModel):
    """A part of a request: unknown names in it are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class FileData(Asked):
    """Data of an uploaded .npz or .safetensors file, with options as in a specification (``npz:FILE?train=500``)."""

    file: FileId
    options: dict[OptionName, OptionValue] = Field(default={}, max_length=20)

    def request(self) -> DataRequest:
        """The same for the rooms of the service."""
        return DataRequest(file=self.file, options=dict(self.options))


class NamedData(Asked):
    """A data set that ``GET /v1/server`` lists, a built-in one with its options (``digits?train=160``)."""

    name: Line

    def request(self) -> DataRequest:
        """The same for the rooms of the service."""
        return DataRequest(name=self.name)


class JobBody(Asked):
    """What is to be measured; files by the ids of their uploads."""

    checkpoint: FileId
    siblings: list[FileId] = Field(
        default=[],
        max_length=64,
        description="The same training from other seeds; how many are allowed stands in GET /v1/server",
    )
    init: FileId | None = Field(default=None, description="What training started from")
    data: FileData | NamedData | None = Field(default=None, description="Null where the checkpoint names its data")
    architecture: Line | None = Field(
        default=None, description="A network that GET /v1/server lists; null where the checkpoint tells"
    )
    weights: Line | None = Field(default=None, description="Which weights, where the file holds several")
    data_checked: bool = Field(
        default=False, description="The data are right, even if the network does not answer as one trained on them"
    )
    precision: float | None = Field(
        default=None,
        ge=0.01,
        le=1.0,
        description="Standard error of the logarithm at which no more samples are added; 0.1 by default",
    )

    def request(self) -> JobRequest:
        """The same for the rooms of the service."""
        return JobRequest(
            checkpoint=self.checkpoint,
            siblings=tuple(self.siblings),
            init=self.init,
            data=self.data.request() if self.data else None,
            architecture=self.architecture,
            weights=self.weights,
            data_checked=self.data_checked,
            precision=self.precision,
        )


class LinkBody(Asked):
    """Whose page is to be opened: one job's report, or the comparison of several."""

    jobs: list[FileId] = Field(min_length=1, max_length=MOST_LINKED, json_schema_extra={"uniqueItems": True})


class Told(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="forbid")


class FileView(Told):
    """An uploaded file."""

    id: FileId
    name: str
    size: int = Field(ge=1, description="Bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created_at: datetime


class FileList(Told):
    """All uploads, newest first."""

    files: list[FileView]


class ProgressView(Told):
    """What a running job does, and the share done of the present step."""

    stage: str
    text: str
    share: float = Field(ge=0, le=1)


class FailureView(Told):
    """Whose fault a failure is, and the sentence that says what happened."""

    blame: Blame
    message: str


class JobLinks(Told):
    """Addresses of a job; its result and its report once it is done."""

    self: str
    result: str | None
    report: str | None


class JobView(Told):
    """A job as it stands."""

    id: FileId
    kind: Kind
    name: str
    state: State
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    position: int | None = Field(description="While it is queued: how many are before it")
    progress: ProgressView | None
    request: dict[str, Any] | None = Field(description="As it was sent; null for a record")
    summary: dict[str, Any] | None = Field(
        description="Verdict, what to try, and the measured numbers, once it is done"
    )
    failure: FailureView | None
    crashes: int
    interruptions: int
    links: JobLinks


class JobList(Told):
    """A page of jobs, newest first."""

    jobs: list[JobView]
    next: FileId | None = Field(description="`before` of the next page; null on the last one")


class LinkView(Told):
    """An address that opens without a token until it ends."""

    url: str
    expires_at: datetime


class ClientLimits(Told):
    """What one client may send."""

    file_bytes: int
    body_bytes: int
    siblings: int
    waiting_jobs: int
    kept_jobs: int
    stored_bytes: int


class ServerView(Told):
    """What a client can count on."""

    version: str
    diagnoser: str
    protocol: str = Field(description="Digest of what is measured and how")
    networks: list[str] = Field(description="Networks that may be named, built-in ones with options")
    data_sets: list[str]
    limits: ClientLimits
    retention_seconds: int = Field(description="How long an ended job is kept")


def file_view(file: StoredFile) -> dict[str, Any]:
    """An upload as it is told."""
    return {
        "id": file.id,
        "name": file.name,
        "size": file.size,
        "sha256": file.sha256,
        "created_at": time_text(file.created_at),
    }


def job_view(job: Job) -> dict[str, Any]:
    """A job as it is told."""
    address = f"/v1/jobs/{job.id}"
    done = job.state is State.DONE
    progress, failure = job.progress, job.failure
    return {
        "id": job.id,
        "kind": job.kind.value,
        "name": job.name,
        "state": job.state.value,
        "created_at": time_text(job.created_at),
        "started_at": time_text(job.started_at),
        "finished_at": time_text(job.finished_at),
        "expires_at": time_text(job.expires_at),
        "position": job.position,
        "progress": progress and {"stage": progress.stage, "text": progress.text, "share": progress.share},
        "request": job.request and _request_view(job.request),
        "summary": job.summary,
        "failure": failure and {"blame": failure.blame.value, "message": failure.message},
        "crashes": job.crashes,
        "interruptions": job.interruptions,
        "links": {
            "self": address,
            "result": f"{address}/result" if done else None,
            "report": f"{address}/report" if done else None,
        },
    }


def _request_view(request: JobRequest) -> dict[str, Any]:
    data: dict[str, Any] | None = None
    if request.data is not None and request.data.file is not None:
        data = {"file": request.data.file, "options": dict(request.data.options)}
    elif request.data is not None:
        data = {"name": request.data.name}
    return {
        "checkpoint": request.checkpoint,
        "siblings": list(request.siblings),
        "init": request.init,
        "data": data,
        "architecture": request.architecture,
        "weights": request.weights,
        "data_checked": request.data_checked,
        "precision": request.precision,
    }


def time_text(time: datetime | None) -> str | None:
    """RFC 3339 in UTC, as ``2026-01-31T12:00:00.000000Z``."""
    return None if time is None else time.isoformat(timespec="microseconds").replace("+00:00", "Z")
