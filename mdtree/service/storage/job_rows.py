"""Jobs and files as rows of the tables, and rows as jobs and files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Row

from mdtree.service.jobs import (
    Answer,
    Blame,
    DataRequest,
    Failure,
    Job,
    JobRequest,
    Kind,
    Progress,
    State,
    StoredFile,
)


def stored_file(row: Row[Any]) -> StoredFile:
    """The upload of a row."""
    return StoredFile(row.id, row.owner, row.name, row.size, row.sha256, row.created_at)


def job(row: Row[Any], position: int | None = None) -> Job:
    """The job of a row."""
    return Job(
        id=row.id,
        owner=row.owner,
        name=row.name,
        kind=Kind(row.kind),
        state=State(row.state),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        expires_at=row.expires_at,
        request=_request(row.request) if row.request is not None else None,
        progress=Progress(row.stage, row.progress_text, row.share) if row.stage is not None else None,
        summary=json.loads(row.summary) if row.summary is not None else None,
        failure=Failure(Blame(row.blame), row.message) if row.blame is not None else None,
        crashes=row.crashes,
        interruptions=row.interruptions,
        position=position,
    )


def job_values(job: Job) -> dict[str, Any]:
    """The row of a new job."""
    return {
        "id": job.id,
        "owner": job.owner,
        "name": job.name,
        "kind": job.kind.value,
        "state": job.state.value,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "expires_at": job.expires_at,
        "request": _request_text(job.request) if job.request else None,
        "crashes": job.crashes,
        "interruptions": job.interruptions,
        "cancel_asked": False,
    }


def answer_values(answer: Answer) -> dict[str, Any]:
    """What an answer sets in the row of its job."""
    return {"verdict": answer.summary.get("verdict"), "summary": json.dumps(dict(answer.summary))}


def failure_values(failure: Failure) -> dict[str, Any]:
    """What a failure sets in the row of its job."""
    return {"blame": failure.blame.value, "message": failure.message}


def progress_values(progress: Progress) -> dict[str, Any]:
    """What a progress sets in the row of its job."""
    return {"stage": progress.stage, "progress_text": progress.text, "share": progress.share}


def _request_text(request: JobRequest) -> str:
    data = request.data
    values = {one.name: getattr(request, one.name) for one in fields(request)}
    if data is not None:
        values["data"] = {"file": data.file, "options": dict(data.options), "name": data.name}
    return json.dumps(values)


def _request(text: str) -> JobRequest:
    values: Mapping[str, Any] = json.loads(text)
    data = values["data"]
    return JobRequest(
        **{**values, "siblings": tuple(values["siblings"]), "data": DataRequest(**data) if data is not None else None}
    )
