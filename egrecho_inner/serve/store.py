"""Jobs in SQLite: every change of state is one transaction that names the state it expects.

In: calls from request handlers and from the dispatcher, of any thread. Out: rows. The write-ahead log survives kill -9;
a change whose expected state is gone changes nothing: two dispatchers, or a cancel and a finish that meet,
cannot both win. What a worker did is in its job's folder, not here: the store can always be brought up to date.
"""

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

RUNNING = ("preparing", "evaluating_base", "training", "saving", "evaluating_final")
FINAL = ("succeeded", "failed", "cancelled")
STATES = ("queued", *RUNNING, *FINAL, "interrupted", "deleted")

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    phase TEXT NOT NULL DEFAULT '',
    options TEXT NOT NULL DEFAULT '{}',
    engine TEXT NOT NULL DEFAULT 'local',
    handle TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    seconds REAL NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '{}',
    result TEXT NOT NULL DEFAULT '{}',
    data_sha256 TEXT NOT NULL DEFAULT '',
    idempotency TEXT,
    fingerprint TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX IF NOT EXISTS once ON jobs (owner, idempotency) WHERE idempotency IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, number);
"""


@dataclass(frozen=True)
class Job:
    """One row."""

    id: str
    number: int
    owner: str
    state: str
    phase: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    engine: str = "local"
    handle: str = ""
    attempt: int = 0
    cancel: bool = False
    """Whether it is to be stopped for good."""
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    seconds: float = 0.0
    """Of all attempts."""
    error: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    data_sha256: str = ""
    idempotency: str | None = None
    fingerprint: str = ""
    """Of the request that an idempotency key belongs to."""

    @property
    def running(self) -> bool:
        return self.state in RUNNING


COLUMNS = [column.name for column in fields(Job)]
PACKED = ("options", "error", "result")


class QueueFull(Exception):
    """No room for another job; the argument names whose."""


class Store:
    """The table of jobs.

    Args:
        path: Of the database; its folder is made.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.local = path, threading.local()
        self.connection().executescript(SCHEMA)

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        found = getattr(self.local, "connection", None)
        if found is None:
            found = self.local.connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            found.row_factory = sqlite3.Row
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON"):
                found.execute(f"PRAGMA {pragma}")
        return found

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Make one transaction, or nothing of it."""
        connection = self.connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def add(
        self,
        owner: str,
        options: dict[str, Any],
        engine: str = "local",
        data_sha256: str = "",
        idempotency: str | None = None,
        fingerprint: str = "",
        queue: int = 1_000_000,
        per_owner: int = 1_000_000,
        id: str | None = None,
    ) -> Job:
        """Queue a job.

        Raises:
            QueueFull: Too many are waiting, of all or of this owner.
        """
        with self.change() as connection:
            check_queue(connection, owner, queue, per_owner)
            number = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM jobs").fetchone()[0]
            row = {
                "id": id or new_id(), "number": number, "owner": owner, "state": "queued",
                "options": json.dumps(options), "engine": engine, "created": time.time(), "data_sha256": data_sha256,
                "idempotency": idempotency, "fingerprint": fingerprint,
            }  # fmt: skip
            names, marks = ", ".join(row), ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", list(row.values()))
        return self.get(row["id"])

    def get(self, id: str) -> Job | None:
        """Return a job; None where there is none of this id."""
        return next(iter(self.select("id = ?", (id,))), None)

    def by_key(self, owner: str, idempotency: str) -> Job | None:
        """Return the job that an owner made under an idempotency key."""
        return next(iter(self.select("owner = ? AND idempotency = ?", (owner, idempotency))), None)

    def newest(self, owner: str | None = None, limit: int = 50, before: int | None = None) -> list[Job]:
        """Return jobs, newest first.

        Args:
            owner: Only those of this owner; None for all.
            limit: At most so many.
            before: Only those with a lower number.
        """
        where, values = "state != 'deleted'", []
        if owner is not None:
            where, values = f"{where} AND owner = ?", [owner]
        if before is not None:
            where, values = f"{where} AND number < ?", [*values, before]
        return self.select(f"{where} ORDER BY number DESC LIMIT ?", [*values, limit])

    def active(self) -> list[Job]:
        """Return the jobs that a worker was started for."""
        return self.select(f"state IN ({quoted(RUNNING)}) ORDER BY number")

    def ahead(self, job: Job) -> int:
        """Count the jobs that were queued before one and still wait."""
        found = self.connection().execute(
            "SELECT count(*) FROM jobs WHERE state = 'queued' AND number < ?", (job.number,)
        )
        return found.fetchone()[0]

    def claim(self, engine: str | None = None) -> Job | None:
        """Take the next waiting job: of the owner with the fewest running, the oldest.

        Args:
            engine: Only jobs of this engine.
        """
        only = "" if engine is None else " AND engine = :engine"
        chosen = f"""SELECT id FROM jobs AS waiting WHERE state = 'queued'{only} ORDER BY
            (SELECT count(*) FROM jobs WHERE owner = waiting.owner AND state IN ({quoted(RUNNING)})), number LIMIT 1"""
        with self.change() as connection:
            row = connection.execute(
                "UPDATE jobs SET state = 'preparing', phase = 'preparing training', handle = '', attempt = attempt + 1,"
                f" started = coalesce(started, :now), ended = NULL WHERE id = ({chosen}) RETURNING id",
                {"now": time.time(), "engine": engine},
            ).fetchone()
        return self.get(row[0]) if row else None

    def update(self, id: str, expected: Iterable[str], **values: Any) -> bool:
        """Change a job if it is in one of the expected states; return whether it was."""
        packed = {name: json.dumps(value) if name in PACKED else value for name, value in values.items()}
        sets = ", ".join(f"{name} = ?" for name in packed)
        with self.change() as connection:
            done = connection.execute(
                f"UPDATE jobs SET {sets} WHERE id = ? AND state IN ({quoted(expected)})", [*packed.values(), id]
            )
            return done.rowcount == 1

    def requeue(self, job: Job, queue: int, per_owner: int) -> bool:
        """Let a job that ended without success wait again; return whether it was one.

        Raises:
            QueueFull: Too many are waiting, of all or of its owner.
        """
        with self.change() as connection:
            check_queue(connection, job.owner, queue, per_owner)
            done = connection.execute(
                "UPDATE jobs SET state = 'queued', cancel = 0, attempt = 0, error = '{}', ended = NULL"
                " WHERE id = ? AND state IN ('cancelled', 'failed', 'interrupted')",
                (job.id,),
            )
            return done.rowcount == 1

    def forget(self, id: str) -> bool:
        """Turn a job that does not run into a tombstone: its id stays, what it knew goes."""
        gone = {"options": {}, "result": {}, "error": {}}
        free = [state for state in STATES if state not in RUNNING]
        return self.update(id, free, state="deleted", phase="", handle="", data_sha256="", fingerprint="",
                           idempotency=None, ended=time.time(), **gone)  # fmt: skip

    def select(self, where: str, values: Iterable[Any] = ()) -> list[Job]:
        """Return the jobs that a condition names."""
        rows = self.connection().execute(f"SELECT {', '.join(COLUMNS)} FROM jobs WHERE {where}", tuple(values))
        return [to_job(row) for row in rows]


def check_queue(connection: sqlite3.Connection, owner: str, queue: int, per_owner: int) -> None:
    """Refuse a job more than may wait or run.

    Raises:
        QueueFull: Too many are waiting, of all or of this owner.
    """
    waiting = f"state IN ('queued', 'interrupted', {quoted(RUNNING)})"
    count = connection.execute(f"SELECT count(*), sum(owner = ?) FROM jobs WHERE {waiting}", (owner,)).fetchone()
    if count[0] >= queue:
        raise QueueFull("queue")
    if (count[1] or 0) >= per_owner:
        raise QueueFull("owner")


def to_job(row: sqlite3.Row) -> Job:
    """Make a job of a row."""
    values = dict(row)
    for name in PACKED:
        values[name] = json.loads(values[name])
    return Job(**values | {"cancel": bool(values["cancel"])})


def quoted(states: Iterable[str]) -> str:
    """Write states for SQL; they are this module's own words."""
    return ", ".join(f"'{state}'" for state in states if state in STATES)


def new_id() -> str:
    """Return an id that cannot be guessed: 128 random bits."""
    return secrets.token_hex(16)
