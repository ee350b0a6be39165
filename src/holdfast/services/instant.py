"""The databases of a stack at the instant of its freeze, so that they and its volumes belong together.

Rules upheld here:
- Sessions are opened after the first pass and just before anything is held; while it is held, each database costs a
  statement or two. Dumps run afterwards, in transactions that were begun at the instant.
- A server whose WAL is archived gets a named restore point there: a recovery to it belongs to the volumes.
- A server that is not dumped and cannot be asked, before or at the freeze, keeps nobody from being backed up: its
  position is not known, and a warning says so. What it is asked is bounded in time: others are held meanwhile.
  One that is dumped and cannot be asked fails the backup, before anything is held.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.config.models import Config
from holdfast.config.postgres import Postgres
from holdfast.errors import HoldfastError
from holdfast.model.ids import PointId
from holdfast.postgres.dump import PostgresDump, chosen_databases
from holdfast.postgres.pinned import POSITION, PinnedCluster
from holdfast.services.databases import server_of

if TYPE_CHECKING:
    from holdfast.postgres.server import Server
    from holdfast.postgres.session import Session

log = logging.getLogger(__name__)

_WATCHED_MS = 5000
"""How long a statement may take on a server that is only watched, milliseconds."""
_POSITION = f"SELECT ({POSITION})::text AS lsn, pg_is_in_recovery() AS standby"


@dataclass(frozen=True, slots=True)
class _Watched:
    """A server that is not dumped: its position is asked for, and a restore point made where its WAL is archived."""

    spec: Postgres
    session: Session


class Databases:
    """The servers of a stack; those of `dumped` are dumped as they were at the freeze. Use it in a `with` block."""

    def __init__(self, config: Config, servers: Sequence[Postgres], dumped: Sequence[str], point: PointId) -> None:
        self._config, self._specs, self._dumped, self._point = config, servers, frozenset(dumped), point
        self._opened = ExitStack()
        self._pinned: dict[str, tuple[Server, PinnedCluster]] = {}
        self._watched: list[_Watched] = []

    def __enter__(self) -> Databases:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def open(self) -> None:
        """Open the sessions. Raises: DatabaseUnavailable, DatabaseDenied, SourceNotFound of a server that is dumped."""
        for spec in self._specs:
            if spec.label in self._dumped:
                self._open_dumped(spec)
                continue
            try:
                server = self._opened.enter_context(server_of(self._config, spec))
                session = self._opened.enter_context(server.session())
                session.execute(f"SET statement_timeout = {_WATCHED_MS}")
                self._watched.append(_Watched(spec, session))
            except HoldfastError as error:
                log.warning("%s: its position at the freeze is not known: %s", spec.label, error)

    def _open_dumped(self, spec: Postgres) -> None:
        server = self._opened.enter_context(server_of(self._config, spec))
        only = spec.databases if spec.databases == "all" else tuple(spec.databases)
        with server.session() as session:
            names = chosen_databases(session, only, spec.label)
        self._pinned[spec.label] = server, self._opened.enter_context(PinnedCluster(server, names))

    def take(self) -> Mapping[str, object]:
        """Fix the instant, while everything is held; what is to be stored with each of the stack's volumes.

        Raises: DatabaseUnavailable, CommandFailed of a server that is dumped.
        """
        positions: dict[str, str] = {}
        points: dict[str, dict[str, str]] = {}
        times: dict[str, str] = {}
        for label, (_, pinned) in self._pinned.items():
            instant = pinned.pin()
            if instant is not None:
                positions[label], times[label] = instant.lsn, instant.time.isoformat()
        for watched in self._watched:
            try:
                self._ask(watched, positions, points)
            except HoldfastError as error:
                log.warning("%s: its place at the freeze is not known: %s", watched.spec.label, error)
        found: dict[str, Mapping[str, object]] = {
            "wal_positions": positions,
            "database_times": times,
            "restore_points": points,
        }
        return {name: values for name, values in found.items() if values}

    def _ask(self, watched: _Watched, positions: dict[str, str], points: dict[str, dict[str, str]]) -> None:
        row = watched.session.query(_POSITION)[0]
        positions[watched.spec.label] = str(row["lsn"])
        if watched.spec.wal is not None and not row["standby"]:
            points[watched.spec.label] = self._restore_point(watched.session)

    def _restore_point(self, session: Session) -> dict[str, str]:
        name = f"holdfast-{self._point}"
        row = session.query(f"SELECT pg_create_restore_point('{name}')::text AS lsn")[0]
        return {"name": name, "lsn": str(row["lsn"])}

    def archive_points(self) -> None:
        """After everything was let go: have the WAL with the restore points archived soon."""
        for watched in self._watched:
            try:
                if watched.spec.wal is not None and not watched.session.query(_POSITION)[0]["standby"]:
                    watched.session.execute("SELECT pg_switch_wal()")
            except HoldfastError as error:  # it is archived with what comes next
                log.warning("%s: its WAL segment was not ended: %s", watched.spec.label, error)

    @contextmanager
    def dump(self, spec: Postgres) -> Iterator[PostgresDump]:
        """A server as a source, as it was at the instant."""
        server, pinned = self._pinned[spec.label]
        with pinned:
            yield PostgresDump(server, label=spec.label, digest=spec.compare == "digest", pinned=pinned)
