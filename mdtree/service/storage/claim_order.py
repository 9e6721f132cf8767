"""In which order waiting jobs are taken."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, case, func, select

from mdtree.service.jobs import Kind, State
from mdtree.service.storage.tables import jobs


def in_claim_order(query: Select[Any]) -> Select[Any]:
    """The waiting jobs of a query on `jobs`, the one to be taken next first.

    A job that ended its process, or was interrupted, comes after those with fewer such setbacks, so that one that kills
    every worker does not keep the others waiting. Then come the jobs of owners of whom fewer jobs run, among these of
    those whose turn was longest ago (a client with a hundred jobs does not keep one with a single job waiting), then
    the oldest.
    """
    running = func.sum(case((jobs.c.state == State.RUNNING.value, 1), else_=0))
    turns = (
        select(jobs.c.owner, running.label("running"), func.max(jobs.c.started_at).label("latest"))
        .where(jobs.c.kind == Kind.CHECKPOINT.value, jobs.c.started_at.is_not(None))
        .group_by(jobs.c.owner)
        .subquery("turns")
    )
    return (
        query.select_from(jobs.outerjoin(turns, turns.c.owner == jobs.c.owner))
        .where(jobs.c.state == State.QUEUED.value)
        .order_by(
            jobs.c.crashes + jobs.c.interruptions,
            func.coalesce(turns.c.running, 0),
            turns.c.latest.is_not(None),  # whoever had none comes first, on either database
            turns.c.latest,
            jobs.c.created_at,
            jobs.c.id,
        )
    )
