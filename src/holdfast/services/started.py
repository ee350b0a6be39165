"""A service of a stack, started in a sandbox as it was recorded, on what was restored, beside its restored databases.

Rules upheld here:
- It is the sandbox's container like any other: on the internal network, with the sandbox's labels and no other, without
  ports and privileges (`policy.started` lists what is taken over). Everything it mounts was restored for it alone.
- Databases that the restore point holds are brought up in the same sandbox first, under the names that the application
  knows: dumps in new servers, base backups recovered to their end. It has their passwords, which come back with them.
- What lies below a restored tree may be a symbolic link to anywhere: such a thing is refused, never mounted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from holdfast.engine.client import Engine
from holdfast.engine.sandbox import Sandbox
from holdfast.engine.volumes import Volume, readable_directly
from holdfast.errors import DrillFailed, SourceNotFound
from holdfast.model.definition import FILES, KIND, StackDefinition
from holdfast.model.snapshot import RestorePoint, Snapshot
from holdfast.policy.room import too_little_memory
from holdfast.policy.started import Mounted, Started, container_of, names_of, plan_start
from holdfast.repository.content import find_node, stream_content
from holdfast.repository.repository import Repository
from holdfast.services.base_drill import join_base
from holdfast.services.bases import base_facts_of, is_base
from holdfast.services.databases import facts_of, load_dump
from holdfast.services.rebuild_wanted import definition_of
from holdfast.services.restore import SnapshotData, open_snapshot, reading, restore_directory
from holdfast.services.sandboxes import memory_available, start_postgres

Start = Callable[[Sequence[str]], str]


def prepare_service(
    engine: Engine,
    sandbox: Sandbox,
    repository: Repository,
    point: RestorePoint,
    service: str,
    without: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> tuple[Start, tuple[str, ...]]:
    """What starts the service, with another command where one is given; and which databases could not be joined.

    The services `beside` it are started here, after the databases.

    Raises: DrillFailed, and what restoring and loading raise.
    """
    described = next((s for s in point.snapshots if s.source.startswith(f"{KIND}:")), None)
    if described is None:
        raise DrillFailed(
            "the restore point has no description of the stack",
            which=point.id,
            wanted="a backup that saw its containers",
            hint=f"holdfast backup {point.stack} makes one, where its engine can be reached",
        )
    snapshots = {snapshot.source: snapshot for snapshot in point.snapshots if snapshot is not described}
    with reading(repository):
        data = open_snapshot(repository, described)
        definition = definition_of(repository, data)
    # Databases are brought up as such, or told as left.
    others = [name for name in beside if not _is_database(definition, name)]
    plans = {name: plan_start(definition, name, tuple(snapshots), without) for name in (service, *others)}
    left = tuple(
        source
        for source, snapshot in snapshots.items()
        if source in definition.databases and not _joined(engine, sandbox, repository, snapshot, definition)
    )

    def starter(name: str, title: str) -> Start:
        plan = plans[name]
        binds = [(_brought(engine, sandbox, repository, snapshots, data, mount), mount.target) for mount in plan.mounts]
        return _starter(sandbox, title, plan, binds, names_of(container_of(definition, name)))

    for name in others:
        starter(name, "beside")(())
    return starter(service, "check"), left


def _is_database(definition: StackDefinition, name: str) -> bool:
    container = container_of(definition, name)
    return not {container.service, container.name}.isdisjoint(definition.databases.values())


def _starter(
    sandbox: Sandbox, title: str, plan: Started, binds: Sequence[tuple[str, str]], names: Sequence[str]
) -> Start:
    def start(command: Sequence[str]) -> str:
        settings = {**plan.settings, **({"command": list(command)} if command else {})}
        for image in plan.images[:-1]:
            with suppress(SourceNotFound):  # rebuilt since then: its name is tried last
                return sandbox.container(title, image, settings=settings, limits=plan.limits, binds=binds, names=names)
        return sandbox.container(
            title, plan.images[-1], settings=settings, limits=plan.limits, binds=binds, names=names
        )

    return start


def _brought(
    engine: Engine,
    sandbox: Sandbox,
    repository: Repository,
    snapshots: dict[str, Snapshot],
    described: SnapshotData,
    mount: Mounted,
) -> str:
    """Restore what a mount shows; the scratch volume, or the place in it, that is mounted for it."""
    volume = sandbox.volume("check")
    reason = readable_directly(engine, volume)
    if reason is not None:
        raise DrillFailed("a check needs a volume that can be written from here", which=mount.target, found=reason)
    if mount.file is not None:
        return _file(repository, described, volume, mount)
    restore_directory(repository, snapshots[mount.label], volume.mountpoint)
    return _inside(volume, mount) if mount.below else volume.name


def _file(repository: Repository, described: SnapshotData, volume: Volume, mount: Mounted) -> str:
    assert mount.file is not None  # noqa: S101  for the type checker: asked by the caller
    node = find_node(repository.reader, described.tree, FILES + b"/" + mount.file.stored.encode())
    path = os.path.join(volume.mountpoint, "file")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as out:
        for piece in stream_content(repository.reader, node):
            out.write(piece)
        os.fchown(fd, mount.file.uid, mount.file.gid)
        os.fchmod(fd, mount.file.mode)
    return path


def _inside(volume: Volume, mount: Mounted) -> str:
    """A place below a restored tree, as the Engine would find it. Raises: DrillFailed."""
    root = os.path.realpath(volume.mountpoint)
    path = os.path.join(root, mount.below)
    if os.path.realpath(path) != path or not (os.path.isdir(path) or os.path.isfile(path)):
        raise DrillFailed(
            "the restored tree has no such directory or file to mount", which=f"{mount.label}, {mount.below}"
        )
    return path


def _joined(
    engine: Engine, sandbox: Sandbox, repository: Repository, snapshot: Snapshot, definition: StackDefinition
) -> bool:
    """Have a database answer in the sandbox, under its recorded names; whether that can be done."""
    with reading(repository):
        data = open_snapshot(repository, snapshot)
    if data.manifest is None or data.manifest.kind != "postgres":
        return False
    base = is_base(data.manifest)
    image = base_facts_of(data.manifest).image if base else facts_of(data.manifest).image
    if image is None:
        return False
    lacking = too_little_memory(memory_available())
    if lacking:
        raise DrillFailed("a scratch database cannot be started", which=snapshot.source, found=lacking)
    container = container_of(definition, definition.databases[snapshot.source])
    if base:
        join_base(engine, sandbox, repository, snapshot, data.manifest, names_of(container))
    else:
        server = start_postgres(engine, sandbox, facts_of(data.manifest), names_of(container))
        load_dump(repository, data, server)
    return True
