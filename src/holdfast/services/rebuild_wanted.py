"""What a restore point wants of a host: the stack's description, its sources, where each goes, and what is there.

Rules upheld here:
- It only looks: nothing is made, nothing is touched.
- A stack is made again only on the engine's own host, whose paths are ours.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

import msgspec

from holdfast.engine import rebuild as make
from holdfast.engine.archive import ArchiveTree
from holdfast.engine.client import Engine
from holdfast.engine.inventory import take_inventory
from holdfast.engine.volumes import bound_directory, find_volume, mounted_on_demand, readable_directly
from holdfast.errors import CorruptObject, RestoreError, SourceNotFound
from holdfast.model.definition import DEFINITION, KIND, StackDefinition
from holdfast.model.snapshot import RestorePoint, Snapshot
from holdfast.policy.rebuild import HostState, State, bind_mounts, mounts_of
from holdfast.repository.content import find_node, stream_content
from holdfast.repository.reader import walk
from holdfast.repository.repository import Repository
from holdfast.services.base_rebuild import BaseTarget, base_target
from holdfast.services.restore import SnapshotData, open_snapshot, reading


class Wanted:
    """One restore point, looked at for one engine."""

    def __init__(self, repository: Repository, engine: Engine, point: RestorePoint) -> None:
        self._repository, self._engine, self.point = repository, engine, point
        with reading(repository):
            self.described = open_snapshot(repository, self._description())
            self.definition = definition_of(repository, self.described)
            self.sizes = {s.source: _size(repository, s) for s in self.sources()}
            self.bases = dict(self._base_targets())

    def _description(self) -> Snapshot:
        for snapshot in self.point.snapshots:
            if snapshot.source.startswith(f"{KIND}:"):
                return snapshot
        raise RestoreError(
            "the restore point has no description of the stack",
            which=f"{self.point.stack} {self.point.id}",
            hint="restore its data alone: holdfast restore --stack NAME, with a configuration; or --to DIR",
        )

    def sources(self) -> list[Snapshot]:
        """The snapshots of data."""
        return [s for s in self.point.snapshots if not s.source.startswith(f"{KIND}:")]

    def _base_targets(self) -> Iterator[tuple[str, BaseTarget]]:
        """Each server that comes back by its base backup."""
        containers = {container.name: container for container in self.definition.containers}
        for snapshot in self.sources():
            name = self.definition.databases.get(snapshot.source)
            if name is not None and name in containers:
                mounts = mounts_of(containers[name])
                target = base_target(self._repository, snapshot, self.sources(), mounts)
                if target is not None:
                    yield snapshot.source, target

    def trees(self) -> Iterator[tuple[Snapshot, str]]:
        """Each source that is a directory, and its path on this host once it can be known."""
        for snapshot in self.sources():
            kind, _, name = snapshot.source.partition(":")
            base = self.bases.get(snapshot.source)
            if base is not None:
                place = self._place("path" if base.source.startswith("/") else "volume", base.source)
                yield snapshot, os.path.join(place, base.below).rstrip("/")
            elif kind == "path" or (kind == "volume" and not self._is_elsewhere(name)):
                yield snapshot, self._place(kind, name)

    def elsewhere(self) -> Iterator[tuple[Snapshot, str]]:
        """Each volume that is written over the engine, for its data lies elsewhere (NFS, another driver); its name."""
        for snapshot in self.sources():
            kind, _, name = snapshot.source.partition(":")
            if kind == "volume" and snapshot.source not in self.bases and self._is_elsewhere(name):
                yield snapshot, name

    def _is_elsewhere(self, name: str) -> bool:
        driver, options = self._made_with(name)
        return mounted_on_demand(driver, options) and bound_directory(driver, options) is None

    def _made_with(self, name: str) -> tuple[str, Mapping[str, str]]:
        """Driver and options of a volume, as it is here, or as it will be made."""
        with contextlib.suppress(SourceNotFound):
            volume = find_volume(self._engine, name)
            return volume.driver, volume.options
        for defined in self.definition.volumes:
            if defined.name == name:
                return defined.driver, defined.options
        return "local", {}

    def _place(self, kind: str, name: str) -> str:
        if kind == "path":
            return name
        if (directory := bound_directory(*self._made_with(name))) is not None:
            return directory
        try:
            volume = find_volume(self._engine, name)
        except SourceNotFound:
            root = str(self._engine.info().get("DockerRootDir") or "/var/lib/docker")
            return os.path.join(root, "volumes", name, "_data")
        if (reason := readable_directly(self._engine, volume)) is not None:
            raise RestoreError(
                "the volume cannot be written from here", which=name, found=reason, hint="holdfast restore --to DIR"
            )
        return volume.mountpoint

    def host(self) -> HostState:
        """What is there: what the plan is made of. Raises: RestoreError, EngineUnavailable."""
        if not self._engine.same_machine():
            raise RestoreError(
                "a stack can be made again only on the engine's own host",
                which=self._engine.url,
                hint="run holdfast restore as root on that host",
            )
        targets: dict[str, State] = {}
        free: dict[str, int] = {}
        places: dict[str, int] = {}
        for snapshot, path in self.trees():
            targets[snapshot.source] = _state(path)
            there = _existing(path)
            free[snapshot.source] = _free_at(there)
            places[snapshot.source] = os.stat(there).st_dev
        for snapshot, name in self.elsewhere():
            targets[snapshot.source] = self._state_over_engine(name)
        root = str(self._engine.info().get("DockerRootDir") or "/")
        for label in (set(self.definition.databases) & set(self.sizes)) - set(self.bases):
            # What a dump becomes is at least about as large as the dump, which is not compressed.
            free[label] = _free_at(root)
            places[label] = os.stat(root).st_dev
        return HostState(
            inventory=take_inventory(self._engine),
            networks=make.network_names(self._engine),
            images=make.image_names(self._engine),
            targets=targets,
            elsewhere=frozenset(snapshot.source for snapshot, _ in self.elsewhere()),
            absent=frozenset(path for path in bind_mounts(self.definition) if not os.path.lexists(path)),
            free=free,
            places=places,
        )

    def _state_over_engine(self, name: str) -> State:
        try:
            volume = find_volume(self._engine, name)
        except SourceNotFound:
            return "missing"
        return "holds data" if ArchiveTree(self._engine, volume).holds_anything() else "empty"


def definition_of(repository: Repository, data: SnapshotData) -> StackDefinition:
    """A stack's description from its snapshot. Raises: CorruptObject, the store's errors."""
    node = find_node(repository.reader, data.tree, DEFINITION)
    try:
        return msgspec.json.decode(b"".join(stream_content(repository.reader, node)), type=StackDefinition)
    except msgspec.DecodeError as error:
        raise CorruptObject("a stack's description cannot be read", which="definition.json", found=str(error)) from None


def _size(repository: Repository, snapshot: Snapshot) -> int:
    return sum(node.size for _, node in walk(repository.reader, snapshot.tree) if node.type == "file")


def _state(path: str) -> State:
    if not os.path.isdir(path):
        return "missing"
    return "holds data" if any(name != "lost+found" for name in os.listdir(path)) else "empty"


def _free_at(path: str) -> int:
    """Bytes that are free for us where a path lies."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
