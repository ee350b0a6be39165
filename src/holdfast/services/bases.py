"""Base backups: from the configuration to a source, and from snapshots to what a recovery can start from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from holdfast.config.sources import Postgres
from holdfast.errors import CorruptObject, SourceUnreadable
from holdfast.model.base import METHOD, BaseBackup, BaseFacts
from holdfast.model.ids import PointId
from holdfast.model.manifest import Manifest
from holdfast.model.snapshot import Snapshot
from holdfast.model.wal import Lsn
from holdfast.postgres.base import PostgresBase
from holdfast.repository.repository import Repository
from holdfast.services.databases import server_of
from holdfast.services.direct_base import DirectBase
from holdfast.services.pgdata_place import find_place
from holdfast.services.restore import open_snapshot

if TYPE_CHECKING:
    from holdfast.config.models import Config


log = logging.getLogger(__name__)


@contextmanager
def base_source(config: Config, spec: Postgres) -> Iterator[PostgresBase | DirectBase]:
    """A configured server as a source of base backups. Raises: as `server_of`."""
    only = spec.databases if spec.databases == "all" else tuple(spec.databases)
    with server_of(config, spec) as server:
        place = find_place(config, spec, server)
        if place.root is not None:
            yield DirectBase(
                server,
                label=spec.label,
                root=place.root,
                tablespaces=place.tablespaces,
                subpath=place.subpath,
                only=only,
                compare=spec.compare,
            )
            return
        if spec.read == "direct":
            raise SourceUnreadable(
                "the data directory cannot be read from here",
                which=spec.label,
                found=place.reason,
                hint="run as root on the server's host, or set read: stream",
            )
        yield PostgresBase(
            server,
            label=spec.label,
            archived=spec.wal is not None,
            subpath=place.subpath,
            only=only,
            compare=spec.compare,
        )


def is_base(manifest: Manifest | None) -> bool:
    """Whether a snapshot is a base backup."""
    return manifest is not None and manifest.kind == "postgres" and manifest.facts.get("method") == METHOD


def base_facts_of(manifest: Manifest) -> BaseFacts:
    """What a base backup says of itself. Raises: CorruptObject."""
    try:
        return msgspec.convert(manifest.facts, BaseFacts)
    except msgspec.ValidationError as error:
        raise CorruptObject("a snapshot's facts cannot be read", which=manifest.source, found=str(error)) from error


def base_of(snapshot: Snapshot, facts: BaseFacts) -> BaseBackup:
    """A base backup as recovery sees it."""
    return BaseBackup(
        snapshot=snapshot.id,
        point=snapshot.point or PointId(snapshot.id),
        system=facts.system,
        timeline=facts.timeline,
        start=Lsn.parse(facts.start),
        stop=Lsn.parse(facts.stop),
        stopped=facts.stopped,
        segment_size=facts.segment_size,
        self_contained=facts.wal_included,
    )


def bases_of(
    repository: Repository, snapshots: Iterable[Snapshot], *, source: str | None = None, strict: bool = False
) -> list[tuple[BaseBackup, BaseFacts]]:
    """The base backups among snapshots, oldest first.

    Those whose facts cannot be read are left out, with a word in the log; with `strict` they are an error.

    Raises: CorruptObject, the store's errors.
    """
    found = []
    for snapshot in snapshots:
        if not snapshot.source.startswith("postgres:") or (source is not None and snapshot.source != source):
            continue
        try:
            manifest = _manifest_of(repository, snapshot)
            if is_base(manifest):
                facts = base_facts_of(manifest)
                found.append((base_of(snapshot, facts), facts))
        except CorruptObject as error:
            if strict:
                raise
            log.warning("snapshot %s is not looked at: %s", snapshot.short_id, error)
    return sorted(found, key=lambda pair: (pair[0].stopped, pair[0].snapshot))


def _manifest_of(repository: Repository, snapshot: Snapshot) -> Manifest:
    manifest = open_snapshot(repository, snapshot).manifest
    if manifest is None:
        raise CorruptObject("the manifest of a database's snapshot cannot be read", which=snapshot.short_id)
    return manifest
