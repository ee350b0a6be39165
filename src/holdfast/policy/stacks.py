"""Which stacks an Engine holds: pure, from an inventory.

Rules upheld here:
- A stack is a Compose project, unless a label says otherwise. What belongs to none is found all the same: it must be
  said to be unprotected.
- A database is recognised by its image, or by the environment that the official images set; a label overrides both.
- A volume belongs to the project that made it, else to the first container that writes it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from holdfast.model.inventory import (
    CONFIG_FILES,
    PROJECT,
    WORKING_DIR,
    FoundContainer,
    FoundMount,
    FoundVolume,
    Inventory,
)

STACK_LABEL = "holdfast.stack"
POSTGRES_LABEL = "holdfast.postgres"
ENABLING = ("holdfast.enable", "backup", "backup-schedule")
_POSTGRES_IMAGE = re.compile(r"(?:postgres|postgis|timescaledb|pgvector|timescaledb-ha|paradedb|postgresql)")
_PGDATA = "/var/lib/postgresql/data"
_SYSTEM = ("/proc", "/sys", "/dev", "/run", "/var/run", "/etc/localtime", "/etc/timezone", "/lib/modules", "/boot")
_FALSE = frozenset({"false", "no", "0", "off"})


@dataclass(frozen=True, slots=True)
class FoundDatabase:
    """A PostgreSQL server in a container; `covers` are the volumes and directories that hold its data."""

    name: str
    container: str
    user: str
    running: bool
    covers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundBind:
    """A path of the host that containers of the stack mount."""

    path: str
    containers: tuple[str, ...]
    below_project: bool
    system: bool


@dataclass(frozen=True, slots=True)
class FoundStack:
    """What belongs together. `project` is the Compose project, None where there is none; "" is the name of no stack."""

    name: str
    project: str | None = None
    containers: tuple[FoundContainer, ...] = ()
    volumes: tuple[FoundVolume, ...] = ()
    binds: tuple[FoundBind, ...] = ()
    databases: tuple[FoundDatabase, ...] = ()
    tmpfs: tuple[str, ...] = ()
    working_dir: str = ""
    compose_files: tuple[str, ...] = ()
    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Volumes that containers of other stacks mount, too: the names of these containers."""


def find_stacks(inventory: Inventory) -> list[FoundStack]:
    """Every stack, by name; last the one named "", if there is anything that belongs to none."""
    of_container = {container.name: _stack_of_container(container) for container in inventory.containers}
    of_volume = {volume.name: _stack_of_volume(volume, inventory, of_container) for volume in inventory.volumes}
    names = sorted({*of_container.values(), *of_volume.values()}, key=lambda name: (not name, name))
    return [_found(name, inventory, of_container, of_volume) for name in names]


def is_postgres(container: FoundContainer) -> bool:
    """Whether a PostgreSQL server runs in it, as far as its label, image and environment tell."""
    said = container.labels.get(POSTGRES_LABEL)
    if said is not None:
        return said.strip().lower() not in _FALSE
    repository = container.image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    named = bool(_POSTGRES_IMAGE.fullmatch(repository))
    return named or {"PGDATA", "PG_MAJOR"} <= container.environment.keys()


def writers_of(inventory: Inventory, volume: FoundVolume) -> list[FoundContainer]:
    """The containers that may write a volume: that mount it by name, or a part of it by path, and not read-only."""
    return [
        container
        for container in inventory.containers
        if any(mounts(mount, volume) and not mount.read_only for mount in container.mounts)
    ]


def mounts(mount: FoundMount, volume: FoundVolume) -> bool:
    """Whether a mount is this volume or a part of it."""
    if mount.kind == "volume":
        return mount.volume == volume.name
    return bool(volume.mountpoint) and is_below(mount.source, volume.mountpoint)


def is_below(path: str, directory: str) -> bool:
    """Whether a path is a directory or lies in it."""
    path, directory = posixpath.normpath(path), posixpath.normpath(directory)
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def stack_name(text: str) -> str:
    """A name as stacks have them: small letters, digits, _ and -."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_") or "stack"


def _stack_of_container(container: FoundContainer) -> str:
    said = container.labels.get(STACK_LABEL) or container.labels.get(PROJECT)
    if said:
        return stack_name(said)
    return stack_name(container.name) if any(label in container.labels for label in ENABLING) else ""


def _stack_of_volume(volume: FoundVolume, inventory: Inventory, of_container: Mapping[str, str]) -> str:
    said = volume.labels.get(STACK_LABEL) or volume.labels.get(PROJECT)
    if said:
        return stack_name(said)
    users = [c for c in inventory.containers if any(mounts(mount, volume) for mount in c.mounts)]
    writers = writers_of(inventory, volume)
    for container in [*writers, *users]:
        if of_container[container.name]:
            return of_container[container.name]
    return stack_name(volume.name) if any(label in volume.labels for label in ENABLING) else ""


def _found(
    name: str, inventory: Inventory, of_container: Mapping[str, str], of_volume: Mapping[str, str]
) -> FoundStack:
    containers = tuple(c for c in inventory.containers if of_container[c.name] == name)
    volumes = tuple(v for v in inventory.volumes if of_volume[v.name] == name)
    labels = next((c.labels for c in containers if PROJECT in c.labels), {})
    working = labels.get(WORKING_DIR, "")
    files = [posixpath.join(working, file) for file in labels.get(CONFIG_FILES, "").split(",") if file]
    strangers = {
        volume.name: tuple(c.name for c in writers_of(inventory, volume) if of_container[c.name] != name)
        for volume in volumes
    }
    return FoundStack(
        name=name,
        project=labels.get(PROJECT),
        containers=containers,
        volumes=volumes,
        binds=_binds(containers, working, volumes),
        databases=_databases(containers),
        tmpfs=tuple(f"{m.target} of {c.name}" for c in containers for m in c.mounts if m.kind == "tmpfs"),
        working_dir=working,
        compose_files=tuple(files),
        shared={volume: users for volume, users in strangers.items() if users},
    )


def _binds(containers: Sequence[FoundContainer], working: str, volumes: Sequence[FoundVolume]) -> tuple[FoundBind, ...]:
    found: dict[str, list[str]] = {}
    for container in containers:
        for mount in container.mounts:
            if mount.kind == "bind" and not any(is_below(mount.source, v.mountpoint) for v in volumes if v.mountpoint):
                found.setdefault(posixpath.normpath(mount.source), []).append(container.name)
    return tuple(
        FoundBind(
            path=path,
            containers=tuple(sorted(set(names))),
            below_project=bool(working) and is_below(path, working),
            system=path == "/" or any(is_below(path, each) for each in _SYSTEM),
        )
        for path, names in sorted(found.items())
    )


def _databases(containers: Iterable[FoundContainer]) -> tuple[FoundDatabase, ...]:
    servers = [container for container in containers if is_postgres(container)]
    services = [container.service for container in servers]
    return tuple(
        FoundDatabase(
            name=c.service if services.count(c.service) == 1 else c.name,
            container=c.name,
            user=c.labels.get(f"{POSTGRES_LABEL}.user") or c.environment.get("POSTGRES_USER") or "postgres",
            running=c.running,
            covers=_data_of(c),
        )
        for c in servers
    )


def _data_of(container: FoundContainer) -> tuple[str, ...]:
    data = container.environment.get("PGDATA") or _PGDATA
    return tuple(
        mount.volume or mount.source
        for mount in container.mounts
        if is_below(data, mount.target) or is_below(mount.target, data)
    )
