"""What a source's PostgreSQL server needs, by the way in which the configuration has it backed up. It only looks.

Rules upheld here:
- The way is that of the next backup: whether it reads over the stream is asked where the backup asks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.config.postgres import Postgres
from holdfast.policy.server_safety import safety_requirements
from holdfast.policy.wal_setup import (
    Requirement,
    archive_requirements,
    incremental_requirement,
    physical_requirements,
    slot_requirements,
)
from holdfast.postgres.cluster import describe_cluster
from holdfast.postgres.server import Server
from holdfast.postgres.session import Session
from holdfast.services.pgdata_place import find_place
from holdfast.services.wal import WalSource

if TYPE_CHECKING:
    from holdfast.config.models import Config


def all_needs(config: Config, stack: str, spec: Postgres, server: Server, session: Session) -> list[Requirement]:
    """What keeps its data whole, and what its base backups and WAL archive take, where it has them.

    Raises: DatabaseUnavailable, DatabaseDenied, CommandFailed, the engine's errors.
    """
    cluster = describe_cluster(session)
    safe = safety_requirements(
        cluster.settings,
        checksums=cluster.checksums,
        version=cluster.version,
        directory=cluster.directory,
        container=spec.container or "",
        image=server.image or "",
    )
    return safe + (physical_needs(config, stack, spec, server, session) if spec.method == "base" else [])


def physical_needs(config: Config, stack: str, spec: Postgres, server: Server, session: Session) -> list[Requirement]:
    """What base backups and the WAL archive take. Raises: as `all_needs`."""
    settings = describe_cluster(session).settings
    source = WalSource(stack, spec, spec.wal) if spec.wal is not None else None
    receiving = source is not None and source.receiving
    senders = int(receiving) + int(find_place(config, spec, server).root is None)
    role = session.query(
        "SELECT quote_ident(rolname) AS name, rolreplication OR rolsuper AS may FROM pg_roles"
        " WHERE rolname = current_user"
    )[0]
    needs = physical_requirements(settings, senders=senders, role=role["name"], replication=bool(role["may"]))
    if source is not None and receiving:
        slots = [str(row["name"]) for row in session.query("SELECT slot_name AS name FROM pg_replication_slots")]
        needs += slot_requirements(settings, slots, source.slot)
    elif source is not None:
        needs += archive_requirements(settings, source.wal.mount or source.wal.spool)
    return needs + ([] if spec.incremental is None else [incremental_requirement(settings)])
