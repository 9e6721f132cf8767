"""Counts, inside the database, how often each job ended: triggers write a row in the transaction that ends it.

What a server or a worker says of itself is not asked. Afterwards the database is held against the files on the disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Connection, create_engine, text

ENDED = "('done', 'failed', 'cancelled')"

SQLITE = (
    "CREATE TABLE ledger (job TEXT, before TEXT, after TEXT)",
    "CREATE TRIGGER ledger_moves AFTER UPDATE ON mdtree_jobs "
    f"WHEN NEW.state IN {ENDED} OR NEW.state <> OLD.state "
    "BEGIN INSERT INTO ledger VALUES (NEW.id, OLD.state, NEW.state); END",
    "CREATE TRIGGER ledger_births AFTER INSERT ON mdtree_jobs "
    "BEGIN INSERT INTO ledger VALUES (NEW.id, 'none', NEW.state); END",
    "CREATE TRIGGER ledger_deaths AFTER DELETE ON mdtree_jobs "
    "BEGIN INSERT INTO ledger VALUES (OLD.id, OLD.state, 'none'); END",
)
POSTGRESQL = (
    "CREATE TABLE ledger (job TEXT, before TEXT, after TEXT)",
    "CREATE FUNCTION ledger_row() RETURNS trigger AS $$ BEGIN "
    "IF TG_OP = 'INSERT' THEN INSERT INTO ledger VALUES (NEW.id, 'none', NEW.state); "
    "ELSIF TG_OP = 'DELETE' THEN INSERT INTO ledger VALUES (OLD.id, OLD.state, 'none'); "
    f"ELSIF NEW.state IN {ENDED} OR NEW.state <> OLD.state THEN "
    "INSERT INTO ledger VALUES (NEW.id, OLD.state, NEW.state); END IF; RETURN NULL; END $$ LANGUAGE plpgsql",
    "CREATE TRIGGER ledger_rows AFTER INSERT OR UPDATE OR DELETE ON mdtree_jobs "
    "FOR EACH ROW EXECUTE FUNCTION ledger_row()",
)
ENDS = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Audit:
    """What a run left behind.

    Attributes
    ----------
    jobs, claims, ends : int
        Jobs in the database; how often a job was begun; how often one ended.
    most_interruptions : int
        Of one job.
    defects : list of str
        Everything that is not as it should be.
    """

    jobs: int
    claims: int
    ends: int
    most_interruptions: int
    defects: list[str]


class Ledger:
    """The counting of one database.

    Parameters
    ----------
    url : str
        An address for SQLAlchemy.
    """

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

    def begin(self) -> None:
        """From now on; the service has made its tables."""
        statements = SQLITE if self.engine.dialect.name == "sqlite" else POSTGRESQL
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def audit(self, accepted: Iterable[str], data_dir: Path) -> Audit:
        """Hold the jobs that clients were promised against the database, and the database against the disk."""
        promised = Counter(accepted)
        with self.engine.connect() as connection:
            moves = [tuple(row) for row in connection.execute(text("SELECT job, before, after FROM ledger"))]
            there = {row[0]: row for row in connection.execute(text(JOBS))}
            defects = [
                *_jobs(promised, moves, there),
                *_answers(connection, there),
                *_files(connection, data_dir),
            ]
        self.engine.dispose()
        return Audit(
            len(there),
            sum(after == "running" for _, _, after in moves),
            sum(after in ENDS for _, _, after in moves),
            max((row[2] for row in there.values()), default=0),
            defects,
        )


JOBS = "SELECT id, state, interruptions, crashes FROM mdtree_jobs"


def _jobs(promised: Counter[str], moves: list[tuple[str, ...]], there: dict[str, tuple[object, ...]]) -> list[str]:
    """Every promised job is there and ended once; no other job is."""
    ends = Counter(job for job, before, after in moves if after in ENDS and before not in ENDS)
    again = Counter(job for job, before, after in moves if after in ENDS and before in ENDS)
    defects = [f"job {job} was promised for {n} keys" for job, n in promised.items() if n > 1]
    defects += [f"job {job} was promised and is not there" for job in promised.keys() - there.keys()]
    defects += [f"job {job} is there and was promised to nobody" for job in there.keys() - promised.keys()]
    for job, row in there.items():
        if row[1] not in ENDS or ends[job] != 1 or again[job]:
            defects.append(f"job {job} is {row[1]}, ended {ends[job]} times, was changed {again[job]} times after")
    return defects


def _answers(connection: Connection, there: dict[str, tuple[object, ...]]) -> list[str]:
    answered = {row[0] for row in connection.execute(text("SELECT job FROM mdtree_answers"))}
    done = {job for job, row in there.items() if row[1] == "done"}
    return [f"job {job}: done or answered, not both" for job in answered ^ done]


def _files(connection: Connection, data_dir: Path) -> list[str]:
    """Nothing half, nothing orphaned, nothing missing."""
    defects = [
        f"{one.name} was left in {one.parent.name}/" for name in ("incoming", "work") for one in _in(data_dir, name)
    ]
    rows = {row[0]: row for row in connection.execute(text("SELECT id, size, sha256 FROM mdtree_files"))}
    stored = {one.name: one for one in _in(data_dir, "files")}
    defects += [f"file {name} lies there without a row" for name in stored.keys() - rows.keys()]
    defects += [f"file {name} has a row and does not lie there" for name in rows.keys() - stored.keys()]
    for name in rows.keys() & stored.keys():
        content = b"".join(one.read_bytes() for one in stored[name].iterdir())
        if (len(content), sha256(content).hexdigest()) != (rows[name][1], rows[name][2]):
            defects.append(f"file {name} is not what its row says")
    return defects


def _in(data_dir: Path, name: str) -> list[Path]:
    return list((data_dir / name).iterdir()) if (data_dir / name).is_dir() else []
