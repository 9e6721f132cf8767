"""What the rooms of the service hand to each other: uploaded files, jobs, and how a job ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a job stands; the last three are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDS = frozenset({State.DONE, State.FAILED, State.CANCELLED})


class Kind(StrEnum):
    """What was sent: files to be measured, or a record that is measured already."""

    CHECKPOINT = "checkpoint"
    RECORD = "record"


class Blame(StrEnum):
    """Whose fault a failure is.

    `INPUT`: what was sent cannot be used. `RESOURCES`: it took more memory or time than the server allows. `CRASHED`:
    it ended its process twice. `SERVER`: a defect of the service, or of what its operator registered.
    """

    INPUT = "input"
    RESOURCES = "resources"
    CRASHED = "crashed"
    SERVER = "server"


@dataclass(frozen=True)
class StoredFile:
    """An uploaded file.

    Attributes
    ----------
    id : str
        32 random hexadecimal digits: the folder it lies in.
    owner : str
        Whose token sent it.
    name : str
        As the client calls it, made harmless (see `mdtree.service.display_names`); for people only.
    size : int
        Bytes.
    sha256 : str
    created_at : datetime
        UTC, as all times here.
    """

    id: str
    owner: str
    name: str
    size: int
    sha256: str
    created_at: datetime


@dataclass(frozen=True)
class DataRequest:
    """The data of a job: an uploaded file with options of its specification, or the name of a registered data set."""

    file: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None


@dataclass(frozen=True)
class JobRequest:
    """What a client asks to be measured; files by their ids.

    Attributes
    ----------
    checkpoint : str
    siblings : tuple of str
    init : str or None
        What training started from.
    data : DataRequest or None
        None where the checkpoint names data that the server knows.
    architecture : str or None
        A registered name, or a built-in network with its options; None where the checkpoint tells.
    weights : str or None
        Which weights of the file, where it holds several.
    data_checked : bool
        The data are right, even if the network does not answer on them as one trained on them.
    precision : float or None
        Standard error of the logarithm at which no more samples are added.
    """

    checkpoint: str
    siblings: tuple[str, ...] = ()
    init: str | None = None
    data: DataRequest | None = None
    architecture: str | None = None
    weights: str | None = None
    data_checked: bool = False
    precision: float | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The ids of all files it names."""
        data = self.data.file if self.data else None
        return tuple(one for one in (self.checkpoint, *self.siblings, self.init, data) if one is not None)


@dataclass(frozen=True)
class Progress:
    """What a running job does: a stage ("reading", "measuring", "deciding"), its present step in words, and how much of
    that step is done (0...1)."""

    stage: str
    text: str = ""
    share: float = 0.0


@dataclass(frozen=True)
class Failure:
    """Why a job failed: whose fault, and the sentence for the client."""

    blame: Blame
    message: str


@dataclass(frozen=True)
class Answer:
    """A diagnosis that was reached.

    Attributes
    ----------
    diagnosis : str
        What `mdtree diagnose --json` prints, without its line end.
    summary : dict
        What lists and pictures need of it (see `mdtree.service.summary`).
    """

    diagnosis: str
    summary: Mapping[str, Any]


Outcome = Answer | Failure


@dataclass(frozen=True)
class Job:
    """A job as it stands.

    Attributes
    ----------
    id : str
        32 random hexadecimal digits.
    owner, name : str
        Whose it is; what it is called (the checkpoint's file name).
    kind : Kind
    state : State
    created_at, started_at, finished_at, expires_at : datetime or None
        UTC. It is deleted at `expires_at`, which an end sets.
    request : JobRequest or None
        None for a record.
    progress : Progress or None
        While it runs.
    summary : dict or None
        Of its answer.
    failure : Failure or None
    crashes : int
        How often it ended its own process; the second time it fails.
    interruptions : int
        How often the server or a worker ended under it, which is not its fault.
    position : int or None
        While it is queued: how many are before it.
    """

    id: str
    owner: str
    name: str
    kind: Kind
    state: State
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    request: JobRequest | None = None
    progress: Progress | None = None
    summary: Mapping[str, Any] | None = None
    failure: Failure | None = None
    crashes: int = 0
    interruptions: int = 0
    position: int | None = None


@dataclass(frozen=True)
class Claim:
    """The right of one worker to end one job: another run of the same job has another `token`."""

    job: Job
    token: str
