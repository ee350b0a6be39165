"""What both ways of taking a base backup share: what is wanted of it, what it learns on the way, and its facts.

Rules upheld here:
- A server that writes too little WAL for a base backup is refused before anything is read.
- The facts are made in one place, whichever way the files were read: a recovery does not ask.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from holdfast.errors import WalNotReady
from holdfast.model.base import BaseFacts
from holdfast.postgres.backup_manifest import Arrived, Manifest
from holdfast.postgres.canary import Recorded, record_canary
from holdfast.postgres.cluster import NEEDED_SETTINGS, Cluster, describe_cluster
from holdfast.postgres.facts import roles
from holdfast.postgres.server import Server
from holdfast.postgres.session import Session

CUT = 32 << 10
"""Bytes of one blob of a relation file: four pages. Measured: with 1.5 % of all pages changed at random 6 % of the
blobs change; at 64 KiB it is 11 %, at 16 KiB 3 % with twice as many blobs to keep track of."""

Compare = Literal["digest", "rows", "none"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a base backup is called, where it belongs, and what of its rows is recorded.

    Args:
        label: `postgres:shop-db`.
        subpath: where PGDATA lies below its volume, for the restore.
        only: the databases whose tables are recorded.
        compare: what is recorded of each table.
    """

    label: str
    subpath: str = ""
    only: Literal["all"] | Sequence[str] = "all"
    compare: Compare = "digest"


@dataclass(slots=True)
class Taken:
    """What became of one backup, filled while it runs."""

    cluster: Cluster
    started: datetime
    stopped: datetime | None = None
    manifest: Manifest | None = None
    files: dict[bytes, Arrived] = field(default_factory=dict)
    recorded: Recorded | None = None
    roles: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()


def begin(session: Session, label: str) -> Taken:
    """Look at the server that a backup is taken of. Raises: WalNotReady, as the session."""
    cluster = describe_cluster(session)
    _refuse_unfit(cluster, label)
    return Taken(cluster, _now(session), roles=roles(session))


def end(session: Session, taken: Taken) -> None:
    """Write down what is known when the files are read."""
    taken.stopped = _now(session)
    rows = session.query("SELECT name FROM pg_available_extensions WHERE installed_version IS NOT NULL ORDER BY 1")
    taken.extensions = tuple(str(row["name"]) for row in rows)


def leave_canary(server: Server, taken: Taken, wanted: Wanted) -> None:
    """Record the rows, and leave behind what a recovery must find. A standby cannot."""
    if not taken.cluster.standby:
        name = f"holdfast-{secrets.token_hex(8)}"
        taken.recorded = record_canary(server, name, only=wanted.only, compare=wanted.compare)


def base_facts(server: Server, taken: Taken, wanted: Wanted, how: str) -> BaseFacts:
    """The facts of a finished backup."""
    cluster, manifest, recorded = taken.cluster, taken.manifest, taken.recorded
    assert manifest is not None and taken.stopped is not None  # noqa: S101, PT018  the backup is finished
    names = (*NEEDED_SETTINGS, "wal_level", "shared_preload_libraries", "config_file", "hba_file", "server_encoding")
    return BaseFacts(
        version=cluster.version,
        system=cluster.system,
        timeline=manifest.timeline,
        start=str(manifest.start),
        stop=str(manifest.stop),
        started=taken.started,
        stopped=taken.stopped,
        segment_size=cluster.segment_size,
        checksums=cluster.checksums,
        directory=cluster.directory,
        subpath=wanted.subpath,
        how=how,
        size=sum(file.size for file in taken.files.values()),
        files=len(taken.files),
        image=server.image,
        user=server.user,
        settings={name: cluster.settings[name] for name in names if name in cluster.settings},
        tablespaces=cluster.tablespaces,
        extensions=taken.extensions,
        roles=taken.roles,
        databases=recorded.databases if recorded else (),
        changing=recorded.changing if recorded else (),
        canary=recorded.canary if recorded else None,
    )


def _refuse_unfit(cluster: Cluster, label: str) -> None:
    if cluster.settings.get("wal_level") == "minimal":
        raise WalNotReady(
            "the server writes too little WAL for a base backup",
            which=label,
            wanted="wal_level = replica",
            found="wal_level = minimal",
            hint="ALTER SYSTEM SET wal_level = 'replica'; then restart the server (max_wal_senders must not be 0)",
        )


def _now(session: Session) -> datetime:
    return datetime.fromisoformat(session.query("SELECT clock_timestamp() AS now")[0]["now"]).astimezone(UTC)
