"""A cluster at one instant: transactions of all its databases that begin together, to be dumped in later.

Rules upheld here:
- Sessions are open and prepared before the instant comes: then each database costs two short statements.
- What the transactions see is fixed by `pin`, however much later it is dumped; `close` ends them in every case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from holdfast.postgres.facts import prepare
from holdfast.postgres.server import Server
from holdfast.postgres.session import Session

BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
POSITION = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END"
_PIN = f"SELECT pg_export_snapshot() AS id, ({POSITION})::text AS lsn, clock_timestamp() AS time"


@dataclass(frozen=True, slots=True)
class Instant:
    """A place in the WAL, and the server's time there."""

    lsn: str
    time: datetime


class PinnedCluster:
    """The databases of one cluster, each with a transaction of one instant. Use it in a `with` block."""

    def __init__(self, server: Server, names: Sequence[str]) -> None:
        self.instant: Instant | None = None
        self._snapshots: dict[str, str] = {}
        self._sessions: dict[str, Session] = {}
        with ExitStack() as opened:
            for name in names:
                session = opened.enter_context(server.session(name))
                prepare(session)
                self._sessions[name] = session
            self._opened = opened.pop_all()

    @property
    def names(self) -> list[str]:
        """The databases."""
        return list(self._sessions)

    def pin(self) -> Instant | None:
        """Fix what the transactions see; None without a database. Raises: DatabaseUnavailable, CommandFailed."""
        for name, session in self._sessions.items():
            session.execute(BEGIN)
            row = session.query(_PIN)[0]
            self._snapshots[name] = row["id"]
            self.instant = self.instant or Instant(str(row["lsn"]), parse_time(row["time"]))
        return self.instant

    @contextmanager
    def transaction(self, name: str) -> Iterator[tuple[Session, str]]:
        """A database's session in its transaction, and the snapshot to dump under; afterwards it is closed."""
        session = self._sessions.pop(name)
        try:
            yield session, self._snapshots[name]
        finally:
            session.close()

    def __enter__(self) -> PinnedCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def parse_time(text: str) -> datetime:
    """A time as the server writes it in JSON."""
    return datetime.fromisoformat(text).astimezone(UTC)
