"""What the operator of a service decides: where it listens, who may use it, what it registers, and its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from mdtree.service.registry import Registry
from mdtree.service.tokens import Tokens

KIB, MIB, GIB = 2**10, 2**20, 2**30


@dataclass(frozen=True)
class Limits:
    """What one client, one job and one file may take.

    Attributes
    ----------
    file_bytes : int
        Of one upload.
    body_bytes : int
        Of any other request: a record, a job.
    siblings : int
        Of one job.
    waiting_jobs, waiting_jobs_per_owner : int
        In the queue, of all and of one owner; more get 429.
    kept_jobs_per_owner : int
        Finished ones; more get 429 until some are deleted or expire.
    stored_bytes_per_owner : int
        Of uploads.
    disk_floor_bytes : int
        Free space below which nothing more is accepted (507).
    reading_seconds, reading_memory_bytes : int
        To read the files of one job; memory beyond four times the largest file.
    measuring_seconds, measuring_memory_bytes : int
        To measure one job.
    header_seconds, body_idle_seconds : float
        How long a client may take for the head of a request, and between two parts of its body.
    body_bytes_per_second : int
        What a body must bring on average, after its first `body_idle_seconds`.
    connections : int
        At the same time; more are turned away.
    """

    file_bytes: int = 2 * GIB
    body_bytes: int = 8 * MIB
    siblings: int = 8
    waiting_jobs: int = 500
    waiting_jobs_per_owner: int = 100
    kept_jobs_per_owner: int = 10_000
    stored_bytes_per_owner: int = 20 * GIB
    disk_floor_bytes: int = GIB
    reading_seconds: int = 120
    reading_memory_bytes: int = GIB
    measuring_seconds: int = 3600
    measuring_memory_bytes: int = 8 * GIB
    header_seconds: float = 10.0
    body_idle_seconds: float = 30.0
    body_bytes_per_second: int = 4 * KIB
    connections: int = 256


@dataclass(frozen=True)
class ServiceSettings:
    """Everything a service is started with.

    Attributes
    ----------
    data_dir : Path
        Where uploads, jobs and reports lie; one service at a time uses it.
    host, port : str, int
    workers : int
        Measurements at the same time.
    tokens : Tokens
        Empty for a service on this machine's own address that asks nobody who he is.
    registry : Registry
        Networks and data sets that clients may name.
    limits : Limits
    database : str or None
        An address for SQLAlchemy; None for SQLite in `data_dir`.
    diagnoser : Path or None
        None for the embedded one.
    device : str
        Where networks are measured: cpu, cuda.
    allowed_hosts : tuple of str
        Names under which clients reach it, beside `host` and those of this machine's own address.
    retention : timedelta
        How long an ended job is kept.
    unused_upload : timedelta
        How long an upload is kept that no job uses.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    tokens: Tokens = field(default_factory=Tokens)
    registry: Registry = field(default_factory=Registry)
    limits: Limits = field(default_factory=Limits)
    database: str | None = None
    diagnoser: Path | None = None
    device: str = "cpu"
    allowed_hosts: tuple[str, ...] = ()
    retention: timedelta = timedelta(days=30)
    unused_upload: timedelta = timedelta(hours=24)
