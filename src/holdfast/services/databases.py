"""Databases: from the configuration to a server, from a snapshot's dump back into one, and what was found there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from holdfast.config.postgres import Postgres
from holdfast.errors import CorruptObject
from holdfast.model.facts import PostgresFacts, amount, are_digested, differences
from holdfast.model.manifest import Manifest
from holdfast.model.words import many
from holdfast.postgres.dump import GLOBALS, PostgresDump, database_name
from holdfast.postgres.facts import cluster_facts
from holdfast.postgres.load import Archive, check_target, load_database, load_globals, load_own_role
from holdfast.postgres.server import Server, container_server, host_server
from holdfast.repository.content import find_node, stream_content
from holdfast.repository.gofields import unquote
from holdfast.repository.repository import Repository
from holdfast.services.restore import SnapshotData

if TYPE_CHECKING:
    from holdfast.config.models import Config

DEFAULT_PORT = 5432


@contextmanager
def server_of(config: Config, spec: Postgres) -> Iterator[Server]:
    """The server that the configuration names. Raises: SourceNotFound, SourceUnreadable, and the engine's errors."""
    secret = spec.password()
    password = secret.reveal() if secret else None
    if spec.host is not None:
        yield host_server(spec.host, spec.port or DEFAULT_PORT, user=spec.user, password=password)
        return
    from holdfast.engine.discovery import find_running
    from holdfast.engine.exec import ContainerRunner
    from holdfast.services.stacks import engine_of

    with engine_of(config) as engine:
        container = find_running(engine, spec.container or "")
        runner = ContainerRunner(engine, container.name)
        yield container_server(runner, user=spec.user, password=password, image=container.image)


@contextmanager
def dump_source(config: Config, spec: Postgres) -> Iterator[PostgresDump]:
    """A configured server as a source."""
    with server_of(config, spec) as server:
        only = spec.databases if spec.databases == "all" else tuple(spec.databases)
        yield PostgresDump(server, label=spec.label, only=only, digest=spec.compare == "digest")


def facts_of(manifest: Manifest) -> PostgresFacts:
    """What the dump recorded. Raises: CorruptObject."""
    try:
        return msgspec.convert(manifest.facts, PostgresFacts)
    except msgspec.ValidationError as error:
        raise CorruptObject("a snapshot's facts cannot be read", which=manifest.source, found=str(error)) from error


def load_dump(
    repository: Repository,
    data: SnapshotData,
    server: Server,
    *,
    replace: bool = False,
    kept: list[tuple[str, str | None]] | None = None,
) -> list[str]:
    """Load a snapshot's dump into a server: roles, then each database; notes about what was left out.

    With `kept` the databases that were replaced stay aside: it gets each name, and what the old one is called now.

    Raises: TargetNotEmpty (nothing was touched then), TargetInUse, RestoreError, CorruptObject, the store's errors.
    """
    reader = repository.reader
    script = b"".join(stream_content(reader, find_node(reader, data.tree, GLOBALS)))
    folder = find_node(reader, data.tree, b"databases")
    archives = {database_name(unquote(node.name)): node for node in reader.load_tree(folder.subtree)}
    check_target(server, sorted(archives), replace=replace)
    notes = load_globals(server, script)
    for name, node in archives.items():
        aside = load_database(server, Archive(name, stream_content(reader, node)), keep=kept is not None)
        if kept is not None:
            kept.append((name, aside))
    return [*notes, *load_own_role(server, script)]


def prove_dump(facts: PostgresFacts, server: Server) -> tuple[str, list[str]]:
    """What a server now holds against what the dump recorded: how much was compared, and each difference."""
    names = [database.name for database in facts.databases]
    found = cluster_facts(server, names, digest=are_digested(facts.databases))
    compared = f"{amount(facts.databases)}, {many(len(facts.roles), 'role')}"
    return compared, differences(facts, found)
