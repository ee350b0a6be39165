"""The WAL of one source: its server, spool, archive and receiver, wired from the configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.config.postgres import Postgres, Wal
from holdfast.errors import ConfigError
from holdfast.model.wal import WalKind
from holdfast.postgres.cluster import Cluster, describe_cluster
from holdfast.postgres.programs import client_programs
from holdfast.postgres.receive import LocalReceiver, Receiver, receive_arguments, slot_name
from holdfast.postgres.server import client_environment
from holdfast.postgres.wal_server import slot_start
from holdfast.repository.repository import Repository
from holdfast.repository.wal_archive import WalArchive
from holdfast.services.databases import DEFAULT_PORT, server_of
from holdfast.services.spool import Spool
from holdfast.services.stacks import engine_of, stack_of

if TYPE_CHECKING:
    from holdfast.config.models import Config

_PLACE_TOLD = 150_000
"""Servers tell a receiver its slot's place since then (READ_REPLICATION_SLOT); before, it began at the present end."""
INSIDE = "/holdfast-spool"
"""Where the sidecar has the spool."""


@dataclass(frozen=True, slots=True)
class WalSource:
    """A source whose WAL is archived."""

    stack: str
    spec: Postgres
    wal: Wal

    @property
    def slot(self) -> str:
        """The replication slot."""
        return self.wal.slot or slot_name(self.spec.name)

    @property
    def receiving(self) -> bool:
        """Whether the WAL comes over a slot, and not from the server's archive_command."""
        return self.wal.via == "stream"

    @property
    def spool(self) -> Spool:
        """Where it waits."""
        return Spool(self.wal.spool)


def wal_sources(config: Config, stacks: list[str], source: str | None = None) -> list[WalSource]:
    """The sources of these stacks that archive WAL; `source` names one of them, with or without `postgres:`.

    Raises: ConfigError when there is none.
    """
    found = [
        WalSource(name, spec, spec.wal)
        for name in stacks
        for spec in stack_of(config, name).postgres
        if spec.wal is not None and spec.method == "base" and source in (None, spec.name, spec.label)
    ]
    if not found:
        raise ConfigError(
            "no source archives its WAL",
            which=source or ", ".join(stacks),
            wanted="a PostgreSQL source with method: base and wal: {spool: …}",
            hint="docs/reference/configuration.md shows how",
        )
    return found


def ask_cluster(config: Config, source: WalSource) -> Cluster:
    """The server's own account. Raises: DatabaseUnavailable, DatabaseDenied, the engine's errors."""
    with server_of(config, source.spec) as server, server.session() as session:
        return describe_cluster(session)


def begin_receiving(config: Config, source: WalSource, cluster: Cluster) -> None:
    """Have a receiver with an empty spool begin where its slot is, on a server that does not tell it where that is.

    Raises: as `ask_cluster`, WalNotReady.
    """
    kinds = (WalKind.SEGMENT, WalKind.PARTIAL)
    if cluster.version >= _PLACE_TOLD or any(file.name.kind in kinds for file in source.spool.waiting()):
        return
    with server_of(config, source.spec) as server, server.session() as session:
        start = slot_start(session, cluster, source.slot)
    if start is not None:
        source.spool.begin_at(start)


def archive_of(repository: Repository, system: str) -> WalArchive:
    """The archive of a cluster."""
    return WalArchive(repository.store, repository.key, system)


@contextmanager
def receiver_of(config: Config, source: WalSource, version: int) -> Iterator[Receiver]:
    """A receiver for a source, stopped when the block ends.

    Raises: SourceNotFound when there are no programs for the server, EngineUnavailable.
    """
    spec = source.spec
    secret = spec.password()
    env = client_environment(secret.reveal() if secret else None)
    if spec.host is not None:
        connection = ["--host", spec.host, "--port", str(spec.port or DEFAULT_PORT), "--username", spec.user]
        arguments = receive_arguments(source.wal.spool, source.slot, connection)
        yield from _stopped(LocalReceiver(client_programs(version), arguments, env))
        return
    from holdfast.engine.sidecar import Sidecar

    connection = ["--host", "127.0.0.1", "--username", spec.user]
    with engine_of(config) as engine:
        yield from _stopped(
            Sidecar(
                engine,
                spec.container or "",
                name=f"holdfast-wal-{spec.container}",
                argv=receive_arguments(INSIDE, source.slot, connection),
                folder=os.path.abspath(source.wal.spool),
                mount=INSIDE,
                env=env,
            )
        )


def _stopped(receiver: Receiver) -> Iterator[Receiver]:
    try:
        yield receiver
    finally:
        receiver.stop()
