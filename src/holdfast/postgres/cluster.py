"""What a cluster says of itself: identity, place in its WAL, settings that a recovery needs, tablespaces.

Source: PostgreSQL manual, "System Information Functions", "Hot Standby" (the settings a standby must not have lower).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from holdfast.model.base import Tablespace
from holdfast.model.wal import Lsn
from holdfast.policy.incremental import FIRST_VERSION, Present, Summarized
from holdfast.postgres.session import Session

NEEDED_SETTINGS = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)
_OTHERS = (
    "wal_level",
    "archive_mode",
    "archive_command",
    "archive_timeout",
    "max_slot_wal_keep_size",
    "max_replication_slots",
    "fsync",
    "full_page_writes",
    "summarize_wal",
    "shared_preload_libraries",
    "server_encoding",
    "config_file",
    "hba_file",
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server. `lsn` is where it writes now; on a standby, what it has replayed. `segment_size` in bytes."""

    version: int
    system: str
    timeline: int
    lsn: Lsn
    standby: bool
    segment_size: int
    checksums: bool
    directory: str
    settings: dict[str, str] = field(default_factory=dict)
    tablespaces: tuple[Tablespace, ...] = ()

    @property
    def major(self) -> int:
        """The major version: 15, 16 and so on."""
        return self.version // 10_000


def describe_cluster(session: Session) -> Cluster:
    """Ask a server. Raises: DatabaseUnavailable, DatabaseDenied, CommandFailed."""
    row = session.query(
        "SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby,"
        " (SELECT system_identifier::text FROM pg_control_system()) AS system,"
        " (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline,"
        " CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0')"
        " ELSE pg_current_wal_lsn() END::text AS lsn,"
        " CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END AS file,"
        " (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size') AS segment,"
        " current_setting('data_checksums') AS checksums, current_setting('data_directory') AS directory"
    )[0]
    names = ", ".join(f"'{name}'" for name in (*NEEDED_SETTINGS, *_OTHERS))
    settings = session.query(f"SELECT name, current_setting(name) AS value FROM pg_settings WHERE name IN ({names})")  # noqa: S608  constants
    spaces = session.query(
        "SELECT oid::bigint AS oid, pg_tablespace_location(oid) AS location FROM pg_tablespace"
        " WHERE pg_tablespace_location(oid) NOT IN ('', 'pg_tblspc/' || oid) ORDER BY 1"  # not those in place
    )
    return Cluster(
        version=int(row["version"]),
        system=str(row["system"]),
        # A promotion shows in the control file with the next checkpoint only; the current file's name knows at once.
        timeline=int(row["file"], 16) if row["file"] else int(row["timeline"]),
        lsn=Lsn.parse(row["lsn"]),
        standby=bool(row["standby"]),
        segment_size=int(row["segment"]),
        checksums=row["checksums"] == "on",
        directory=str(row["directory"]),
        settings={str(item["name"]): str(item["value"]) for item in settings},
        tablespaces=tuple(Tablespace(oid=int(item["oid"]), location=str(item["location"])) for item in spaces),
    )


def present_of(session: Session) -> Present:
    """What the choice between a full and an incremental base backup depends on. Raises: as `describe_cluster`."""
    cluster = describe_cluster(session)
    on, begin = cluster.settings.get("summarize_wal") == "on", None
    if cluster.version >= FIRST_VERSION:
        begin = session.query("SELECT min(start_lsn)::text AS begin FROM pg_available_wal_summaries()")[0]["begin"]
    summaries = Summarized(on, Lsn.parse(begin) if begin else None)
    return Present(cluster.version, cluster.system, cluster.timeline, cluster.lsn, cluster.checksums, summaries)
