"""Base backups: from the configuration to a source, and from snapshots to what a recovery can start from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from holdfast.config.postgres import Postgres
from holdfast.errors import CorruptObject, SnapshotNotFound, SourceUnreadable
from holdfast.model.base import METHOD, BaseBackup, BaseFacts, BuildsOn
from holdfast.model.ids import PointId
from holdfast.model.manifest import Manifest
from holdfast.model.snapshot import Snapshot
from holdfast.model.wal import Lsn
from holdfast.policy.incremental import plan_incremental, with_chains
from holdfast.postgres.backup_manifest import NAME as MANIFEST
from holdfast.postgres.base import Before, PostgresBase
from holdfast.postgres.cluster import present_of
from holdfast.postgres.server import Server
from holdfast.postgres.taken import Wanted
from holdfast.repository.content import find_node, stream_content
from holdfast.repository.repository import Repository
from holdfast.services.databases import server_of
from holdfast.services.direct_base import DirectBase
from holdfast.services.pgdata_place import find_place
from holdfast.services.restore import open_snapshot

if TYPE_CHECKING:
    from holdfast.config.models import Config


log = logging.getLogger(__name__)


@contextmanager
def base_source(
    config: Config, spec: Postgres, repository: Repository | None = None, stack: str | None = None
) -> Iterator[PostgresBase | DirectBase]:
    """A configured server as a source of base backups.

    With a repository and the stack's name a backup can be incremental, where that is asked for. Raises: as `server_of`.
    """
    only = spec.databases if spec.databases == "all" else tuple(spec.databases)
    with server_of(config, spec) as server:
        place = find_place(config, spec, server)
        wanted = Wanted(spec.label, place.subpath, only, spec.compare)
        if place.root is not None:
            yield DirectBase(server, wanted, root=place.root, tablespaces=place.tablespaces)
            return
        if spec.read == "direct":
            raise SourceUnreadable(
                "the data directory cannot be read from here",
                which=spec.label,
                found=place.reason,
                hint="run as root on the server's host, or set read: stream",
            )
        before, reason = None, ""
        if spec.incremental is not None and repository is not None:
            before, reason = _before(repository, server, spec, stack)
        yield PostgresBase(server, wanted, archived=spec.wal is not None, before=before, full_because=reason)


def _before(repository: Repository, server: Server, spec: Postgres, stack: str | None) -> tuple[Before | None, str]:
    """What an incremental backup builds on, or why it has to be a full one."""
    repository.refresh()
    snapshots = [s for s in repository.snapshots().snapshots if s.stack == stack and s.source == spec.label]
    with server.session() as session:
        present = present_of(session)
    plan = plan_incremental(present, bases_of(repository, snapshots), spec.incremental or 0)
    if plan.base is None:
        return None, plan.reason
    try:
        data = open_snapshot(repository, next(s for s in snapshots if s.id == plan.base.snapshot))
        node = find_node(repository.reader, data.tree, MANIFEST)
        listed = b"".join(stream_content(repository.reader, node))
    except (CorruptObject, SnapshotNotFound) as error:
        return None, f"the last one's list of files cannot be read: {error}"
    return Before(BuildsOn(timeline=plan.base.timeline, start=str(plan.base.start)), listed), ""


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
        builds_on=(facts.builds_on.timeline, Lsn.parse(facts.builds_on.start)) if facts.builds_on else None,
    )


def find_base(repository: Repository, snapshot: Snapshot, facts: BaseFacts) -> BaseBackup:
    """The base backup that a snapshot is, with those that it builds on. Raises: as `bases_of`."""
    if facts.builds_on is None:
        return base_of(snapshot, facts)
    same = [s for s in repository.snapshots().snapshots if (s.stack, s.source) == (snapshot.stack, snapshot.source)]
    return next(base for base, _ in bases_of(repository, same) if base.snapshot == snapshot.id)


def size_of_chain(repository: Repository, snapshot: Snapshot, manifest: Manifest) -> int:
    """The bytes of a base backup and of all that it builds on. Raises: as `bases_of`."""
    below = set(find_base(repository, snapshot, base_facts_of(manifest)).below)
    return sum(s.size or 0 for s in repository.snapshots().snapshots if s.id in below or s.id == snapshot.id)


def bases_of(
    repository: Repository, snapshots: Iterable[Snapshot], *, source: str | None = None, strict: bool = False
) -> list[tuple[BaseBackup, BaseFacts]]:
    """The base backups among snapshots, oldest first, each with those of them that it builds on.

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
    chained = {base.snapshot: base for base in with_chains([base for base, _ in found])}
    pairs = [(chained[base.snapshot], facts) for base, facts in found]
    return sorted(pairs, key=lambda pair: (pair[0].stopped, pair[0].snapshot))


def _manifest_of(repository: Repository, snapshot: Snapshot) -> Manifest:
    manifest = open_snapshot(repository, snapshot).manifest
    if manifest is None:
        raise CorruptObject("the manifest of a database's snapshot cannot be read", which=snapshot.short_id)
    return manifest
