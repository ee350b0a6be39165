"""What a drill of a base backup will look for: a committed transaction, a named restore point, and the rows before it.

Rules upheld here:
- The rows are recorded between the transaction and the restore point. If no transaction was begun in between and none
  was open, they hold exactly at the restore point; else they are recorded once more behind it, and what differs is
  named as changing: it cannot be compared. So is what the server counted writes to, though it looks the same before and
  after: a queue is empty most of the time.
- Unlogged tables are left out: they are empty after every recovery.
- A standby can write neither: it has no canary.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from holdfast.errors import HoldfastError
from holdfast.model.base import Canary
from holdfast.model.facts import DatabaseFacts
from holdfast.postgres.facts import cluster_facts, databases
from holdfast.postgres.server import Server
from holdfast.postgres.session import Session

_PLACE = "SELECT pg_snapshot_xmax(s)::text AS next, pg_snapshot_xmin(s)::text AS open FROM pg_current_snapshot() s"
_WRITES = (
    "SELECT schemaname AS schema, relname AS name, relid::bigint AS oid,"
    " (n_tup_ins + n_tup_upd + n_tup_del)::bigint AS writes FROM pg_stat_user_tables"
)
_COUNTED_AFTER = 1.2
"""Seconds after which a server that is at work has counted what it wrote (pgstat.c, PGSTAT_MIN_INTERVAL)."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The rows, the tables (`database schema.table`) and databases that changed meanwhile, and the canary."""

    databases: tuple[DatabaseFacts, ...]
    changing: tuple[str, ...]
    canary: Canary


def record_canary(
    server: Server,
    name: str,
    *,
    only: Literal["all"] | Sequence[str] = "all",
    compare: Literal["digest", "rows", "none"] = "digest",
) -> Recorded:
    """Commit a transaction, record the rows, make the restore point `name`, and end the segment.

    Raises: DatabaseUnavailable, DatabaseDenied, CommandFailed.
    """
    with server.session() as session:
        names = [] if compare == "none" else databases(session) if only == "all" else list(only)
        xid = int(session.query("SELECT pg_current_xact_id()::text AS xid")[0]["xid"])
        before = session.query(_PLACE)[0]
        writes = _writes(server, names)
        facts = _facts(server, names, digest=compare == "digest")
        point = session.query(f"SELECT pg_create_restore_point('{name}')::text AS lsn, clock_timestamp() AS time")[0]
        after = session.query(_PLACE)[0]
        quiet = before == after and before["next"] == before["open"]
        if quiet:
            changing = _going(facts, databases(session))
        else:
            changing = _changing(facts, _facts(server, names, digest=compare == "digest"))
            time.sleep(_COUNTED_AFTER if names else 0)
            changing = tuple(sorted({*changing, *_written(writes, _writes(server, names))}))
        session.execute("SELECT pg_switch_wal()")
        canary = Canary(xid=xid, name=name, lsn=str(point["lsn"]), time=_time(point["time"]), quiet=quiet)
    return Recorded(facts, changing, canary)


def heartbeat(session: Session) -> int:
    """Commit a transaction that changes nothing: a recovery to a time needs a later commit to stop at. Its number."""
    return int(session.query("SELECT pg_current_xact_id()::text AS xid")[0]["xid"])


def _facts(server: Server, names: list[str], *, digest: bool) -> tuple[DatabaseFacts, ...]:
    return cluster_facts(server, names, digest=digest, logged=True).databases if names else ()


def _writes(server: Server, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """For each table its number, and how many rows were written to it so far; none where a database goes meanwhile."""
    found: dict[str, tuple[int, int]] = {}
    for name in names:
        with contextlib.suppress(HoldfastError), server.session(name) as session:
            for row in session.query(_WRITES):
                found[table_name(name, row["schema"], row["name"])] = (int(row["oid"]), int(row["writes"]))
    return found


def _written(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> set[str]:
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def _going(found: Sequence[DatabaseFacts], present: Sequence[str]) -> tuple[str, ...]:
    """Databases whose removal began: PostgreSQL marks them invalid before it begins a transaction (dropdb(), 15.4)."""
    return tuple(sorted({database.name for database in found} - set(present)))


def _changing(before: Sequence[DatabaseFacts], after: Sequence[DatabaseFacts]) -> tuple[str, ...]:
    first, second = _by_table(before), _by_table(after)
    tables = {name for name in {*first, *second} if first.get(name) != second.get(name)}
    come_or_gone = {database.name for database in before} ^ {database.name for database in after}
    return tuple(sorted(tables | come_or_gone))


def _by_table(found: Sequence[DatabaseFacts]) -> dict[str, object]:
    return {table_name(database.name, t.schema, t.table): t for database in found for t in database.tables}


def table_name(database: str, schema: str, table: str) -> str:
    """How a table is named among those that changed."""
    return f"{database} {schema}.{table}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
