"""Setting a server up for WAL archiving: what is missing, and with `apply` making it so. Never restarts a server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from holdfast.errors import WalNotReady
from holdfast.policy.wal_setup import Requirement
from holdfast.postgres.cluster import describe_cluster
from holdfast.postgres.server import Server
from holdfast.services.databases import server_of
from holdfast.services.server_needs import physical_needs
from holdfast.services.wal import WalSource

if TYPE_CHECKING:
    from holdfast.config.models import Config


class SetupReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a source's server needs. `changed` names what was made so now, `restart` what a restart will."""

    stack: str
    source: str
    system: str
    spool: str
    requirements: tuple[Requirement, ...]
    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether everything that is no mere advice is met."""
        return all(need.met or need.advice for need in self.requirements)


def setup(config: Config, source: WalSource, *, apply: bool = False) -> SetupReport:
    """Check a source's server and spool; with `apply` change what can be changed while it runs, and check again.

    Raises: DatabaseUnavailable, DatabaseDenied, CommandFailed, WalNotReady when the spool cannot be made.
    """
    changed: list[str] = []
    with server_of(config, source.spec) as server:
        if apply:
            _make_spool(source, server)
        with server.session() as session:
            cluster = describe_cluster(session)
            if apply:
                source.spool.claim(cluster.system)
                for need in physical_needs(config, source.stack, source.spec, server, session):
                    if need.met or not need.sql:
                        continue
                    for statement in need.sql:
                        session.execute(statement)
                    changed.append(need.name)
        with server.session() as session:
            requirements = tuple(physical_needs(config, source.stack, source.spec, server, session))
    return SetupReport(
        stack=source.stack,
        source=source.spec.label,
        system=cluster.system,
        spool=source.wal.spool,
        requirements=requirements,
        changed=tuple(changed),
        restart=tuple(need.name for need in requirements if need.restart and not need.met),
    )


def _make_spool(source: WalSource, server: Server) -> None:
    """The folder: ours when a receiver of ours writes it, the server's user's when its archive_command does."""
    path = source.wal.spool
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        if not source.receiving and os.geteuid() == 0:
            owner = server.owner()
            if owner is not None:
                os.chown(path, *owner)
    except OSError as error:
        raise WalNotReady("the spool cannot be made", which=path, found=error.strerror) from error
