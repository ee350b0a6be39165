"""Everything that an Engine holds, read at one go: the base of discovery.

Rules upheld here:
- What goes while we look (a container that was just removed) is left out, not an error.
- Sandboxes, receivers of WAL and other passing things of Holdfast's own are not part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from holdfast.engine.client import Engine
from holdfast.engine.discovery import Container, parse_container
from holdfast.engine.sandbox import LABEL as SANDBOX
from holdfast.engine.sidecar import LABEL as SIDECAR
from holdfast.engine.volumes import parse_volume
from holdfast.errors import SourceNotFound
from holdfast.model.inventory import FoundContainer, FoundMount, FoundVolume, Inventory


def take_inventory(engine: Engine) -> Inventory:
    """All containers and volumes. Raises: EngineUnavailable, EngineRefused."""
    with engine.asking("cannot list containers and volumes"):
        listed = engine.api.containers(all=True)
        volumes = engine.api.volumes()["Volumes"] or ()
    containers = [parse_container(found) for found in _described(engine, listed)]
    return Inventory(
        containers=tuple(sorted((found_container(c) for c in containers if not is_ours(c.labels)), key=_name)),
        volumes=tuple(sorted((_volume(v) for v in volumes if not is_ours(v.get("Labels") or {})), key=_name)),
    )


def is_ours(labels: Mapping[str, str]) -> bool:
    """Whether a container or volume is a passing thing of Holdfast's own, by its labels."""
    return SANDBOX in labels or SIDECAR in labels


def described_containers(engine: Engine) -> list[Mapping[str, Any]]:
    """Every container, running or not, as the engine itself describes it. Raises: EngineUnavailable, EngineRefused."""
    with engine.asking("cannot list containers"):
        listed = engine.api.containers(all=True)
    return list(_described(engine, listed))


def found_container(container: Container) -> FoundContainer:
    """A container of the engine as discovery sees it."""
    return FoundContainer(
        id=container.id,
        name=container.name,
        image=container.image,
        status=container.status,
        labels=container.labels,
        mounts=tuple(FoundMount(m.kind, m.volume, m.source, m.target, m.read_only) for m in container.mounts),
        environment=container.environment,
        joins=container.joins,
        goes_when_stopped=container.goes_when_stopped,
    )


def _described(engine: Engine, listed: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for item in listed:
        try:
            with engine.asking("cannot inspect a container", item["Id"]):
                found = engine.api.inspect_container(item["Id"])
        except SourceNotFound:
            continue
        yield found


def _volume(found: Mapping[str, Any]) -> FoundVolume:
    volume = parse_volume(found)
    return FoundVolume(volume.name, volume.driver, volume.mountpoint, volume.labels, volume.options)


def _name(thing: FoundContainer | FoundVolume) -> str:
    return thing.name
