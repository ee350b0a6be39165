"""What a server tells of its WAL: slots, archiver, the disk of pg_wal, standbys, its own lag where it is one.

Rules upheld here:
- The disk is that of the server, seen where the server is: inside its container, or on this machine when its data
  directory is proven to be here. Elsewhere it is not known, and the reason is said.
- The rate of WAL is that of the last minutes, from when the segments that still lie in pg_wal were finished: one look
  is enough, and nothing is remembered between two.

Source: PostgreSQL manual, "Monitoring Database Activity" (pg_stat_replication, pg_stat_wal_receiver, pg_stat_archiver),
"pg_replication_slots", "System Administration Functions" (pg_ls_waldir).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from holdfast.errors import HoldfastError
from holdfast.model.wal import Lsn, WalKind, WalSegment, parse_wal_name
from holdfast.model.wal_state import Archiver, Disk, Replica, ServerWal, Slot, StandbyLag
from holdfast.policy.wal_server import with_holder
from holdfast.postgres.cluster import Cluster
from holdfast.postgres.server import Server
from holdfast.postgres.session import Session

_LATELY = 600.0
"""Seconds over which the rate of WAL is taken, where segments of that time are still there."""
_AT_LEAST = 60.0
"""Seconds over which it is taken anyway: what is written in one burst goes on for no six hours."""

_HERE = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END"


def ask_wal(server: Server, session: Session, cluster: Cluster, *, slot: str | None) -> ServerWal:
    """Ask for everything; `slot` is the one that the archive is received from, None with an archive_command.

    Raises: as `Session.query`.
    """
    slots = _slots(session, cluster)
    archiver = _archiver(session, cluster) if slot is None else None
    usual = int(session.query("SELECT pg_size_bytes(current_setting('max_wal_size')) AS size")[0]["size"])
    return ServerWal(
        slot=None if slot is None else next((s for s in slots if s.name == slot), Slot(slot, exists=False)),
        archiver=archiver,
        disk=with_holder(_disk(server, session, cluster), slots, archiver, usual),
        replicas=_replicas(session),
        standby=_standby(session) if cluster.standby else None,
    )


def slot_start(session: Session, cluster: Cluster, slot: str) -> str | None:
    """The first segment that a slot keeps on the server's present timeline; None without the slot, or where it is lost.

    Raises: as `Session.query`.
    """
    rows = session.query(f"SELECT restart_lsn::text AS place FROM pg_replication_slots WHERE slot_name = '{slot}'")  # noqa: S608  a checked name
    if not rows or not rows[0]["place"]:
        return None
    first = WalSegment.holding(cluster.timeline, Lsn.parse(rows[0]["place"]), cluster.segment_size).name
    found = session.query(  # right after a promotion the slot's place may be older than the timeline
        "SELECT min(name) AS name FROM pg_ls_waldir()"  # noqa: S608  hex digits
        f" WHERE name ~ '^{cluster.timeline:08X}[0-9A-F]{{16}}$' AND name >= '{first}'"
    )
    return str(found[0]["name"] or first)


def _slots(session: Session, cluster: Cluster) -> list[Slot]:
    rows = session.query(
        "SELECT slot_name AS name, active, coalesce(wal_status, '') AS status, restart_lsn::text AS place,"
        " safe_wal_size AS safe FROM pg_replication_slots"
    )
    return [
        Slot(
            str(row["name"]),
            True,
            bool(row["active"]),
            str(row["status"]),
            max(0, cluster.lsn - Lsn.parse(row["place"])) if row["place"] else 0,
            None if row["safe"] is None else int(row["safe"]),
        )
        for row in rows
    ]


def _archiver(session: Session, cluster: Cluster) -> Archiver:
    row = session.query(
        "SELECT failed_count AS failed, last_failed_time AS failure, last_archived_time AS archived,"
        " coalesce(last_failed_wal, '') AS wal FROM pg_stat_archiver"
    )[0]
    failing = parse_wal_name(str(row["wal"]))
    held = 0
    if failing is not None and failing.kind in (WalKind.SEGMENT, WalKind.PARTIAL):  # it, and all behind it, wait
        held = max(0, cluster.lsn - failing.segment(cluster.segment_size).begin)
    return Archiver(int(row["failed"]), _moment(row["failure"]), _moment(row["archived"]), str(row["wal"]), held)


def _moment(text: Any) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _disk(server: Server, session: Session, cluster: Cluster) -> Disk:
    disk = Disk()
    # A role that is neither superuser nor in pg_monitor: two numbers less. Trying would end a session of psql.
    if session.query("SELECT has_function_privilege('pg_ls_waldir()', 'EXECUTE') AS may")[0]["may"]:
        row = session.query("SELECT sum(size)::bigint AS bytes FROM pg_ls_waldir()")[0]
        disk = Disk(pg_wal=int(row["bytes"] or 0), rate=_rate(session, cluster))
    try:
        free, total = server.room(f"{cluster.directory}/pg_wal")
    except HoldfastError as error:
        return msgspec.structs.replace(disk, unknown=error.found or str(error))
    return msgspec.structs.replace(disk, free=free, total=total)


def _rate(session: Session, cluster: Cluster) -> float | None:
    """Bytes of WAL per second since a segment of the present timeline was finished; None where none is left."""
    present = WalSegment.holding(cluster.timeline, cluster.lsn, cluster.segment_size)
    finished = (
        "SELECT name, extract(epoch FROM clock_timestamp() - modification)::float8 AS age FROM pg_ls_waldir()"  # noqa: S608  hex digits
        f" WHERE name ~ '^{cluster.timeline:08X}[0-9A-F]{{16}}$' AND name < '{present.name}'"
    )
    rows = session.query(
        f"(SELECT * FROM ({finished}) f WHERE age <= {_LATELY} ORDER BY age DESC LIMIT 1)"  # noqa: S608  built here
        f" UNION ALL (SELECT * FROM ({finished}) f WHERE age > {_LATELY} ORDER BY age LIMIT 1)"
    )
    for row in rows:
        name, age = parse_wal_name(str(row["name"])), float(row["age"])
        if name is not None:
            end = name.segment(cluster.segment_size).begin + cluster.segment_size
            return max(0, cluster.lsn - end) / max(age, _AT_LEAST)
    return None


def _replicas(session: Session) -> tuple[Replica, ...]:
    places, lags = ("sent", "write", "flush", "replay"), ("write", "flush", "replay")
    behind = ", ".join(f"greatest(0, {_HERE} - {place}_lsn)::bigint AS {place}_bytes" for place in places)
    late = ", ".join(f"extract(epoch FROM {lag}_lag)::float8 AS {lag}_seconds" for lag in lags)
    rows = session.query(
        "SELECT application_name AS name, coalesce(host(client_addr), 'local') AS client, coalesce(state, '') AS state,"  # noqa: S608  constants
        f" {', '.join(f'{place}_lsn IS NULL AS no_{place}' for place in places)}, {behind}, {late}"
        " FROM pg_stat_replication ORDER BY application_name, pid"
    )
    for row in rows:
        for place in places:  # greatest() passes over what is not there
            if row.pop(f"no_{place}"):
                row[f"{place}_bytes"] = None
    return tuple(msgspec.convert(row, Replica) for row in rows)


def _standby(session: Session) -> StandbyLag:
    row = session.query(
        "SELECT coalesce(greatest(pg_last_wal_receive_lsn(), latest_end_lsn) - pg_last_wal_replay_lsn(), 0)::bigint"
        " AS bytes, extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS age,"
        " coalesce(status = 'streaming', false) AS streaming"
        " FROM (SELECT 1) one LEFT JOIN pg_stat_wal_receiver ON true"
    )[0]
    behind, streaming = max(0, int(row["bytes"])), bool(row["streaming"])
    age = None if row["age"] is None else max(0.0, float(row["age"]))
    return StandbyLag(bytes=behind, seconds=0.0 if streaming and not behind else age, streaming=streaming)
