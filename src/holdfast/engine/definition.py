"""Reading from the Engine what a stack is made of, and its images as archives.

Rules upheld here:
- What the Engine adds by itself (ids, addresses given out, the containers' own names among the aliases) is left out:
  it is another on the next host.
- The default networks are the Engine's own, and are never made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from holdfast.engine.client import Engine
from holdfast.errors import SourceNotFound
from holdfast.model.definition import ContainerDefinition, ImageDefinition, NetworkDefinition, VolumeDefinition
from holdfast.model.inventory import FoundContainer, FoundVolume
from holdfast.policy.ordering import dependencies
from holdfast.policy.ranges import chosen_ranges

BUILT_IN = frozenset({"bridge", "host", "none"})
_NOT_CONFIG = frozenset({"Hostname", "Image"})


def volume_definition(volume: FoundVolume) -> VolumeDefinition:
    """A volume as it was created."""
    return VolumeDefinition(
        name=volume.name, driver=volume.driver, options=dict(volume.options), labels=dict(volume.labels)
    )


def container_definitions(engine: Engine, containers: Iterable[FoundContainer]) -> list[ContainerDefinition]:
    """Containers as they were created; one that just went is left out. Raises: EngineUnavailable, EngineRefused."""
    host = str(engine.info().get("Name"))
    found = []
    for container in containers:
        try:
            with engine.asking("cannot inspect a container", container.name):
                raw = engine.api.inspect_container(container.id)
        except SourceNotFound:
            continue
        found.append(_container(container, raw, host))
    return found


def network_definitions(engine: Engine, containers: Sequence[ContainerDefinition]) -> list[NetworkDefinition]:
    """The networks that containers are in, without the Engine's own. Raises: EngineUnavailable, EngineRefused."""
    names = sorted({name for container in containers for name in container.endpoints} - BUILT_IN)
    pools = engine.info().get("DefaultAddressPools") or ()
    found = []
    for name in names:
        with engine.asking("cannot inspect a network", name):
            raw = engine.api.inspect_network(name)
        found.append(_network(raw, pools, _fixed(name, containers)))
    return found


def image_definitions(
    engine: Engine, containers: Iterable[ContainerDefinition], *, save: bool
) -> list[ImageDefinition]:
    """The images that containers run from. Raises: EngineUnavailable, EngineRefused, SourceNotFound."""
    found = {}
    for reference in sorted({container.image for container in containers}):
        with engine.asking("cannot inspect an image", reference):
            raw: dict[str, Any] = engine.api.inspect_image(reference)  # type: ignore[no-untyped-call]  # the stubs lack it
        name = f"{raw['Id'].rpartition(':')[2][:16]}.tar" if save else ""
        found[reference] = ImageDefinition(
            reference=reference,
            id=raw["Id"],
            digests=tuple(raw.get("RepoDigests") or ()),
            size=int(raw.get("Size") or 0),
            saved=name,
        )
    return list(found.values())


def image_archive(engine: Engine, reference: str) -> Iterator[bytes]:
    """An image as `docker save` gives it. Raises: EngineUnavailable, EngineRefused, SourceNotFound."""
    with engine.asking("cannot save an image", reference):
        yield from engine.api.get_image(reference)


def _container(container: FoundContainer, raw: Mapping[str, Any], host: str) -> ContainerDefinition:
    config = {key: value for key, value in raw["Config"].items() if key not in _NOT_CONFIG}
    lent = host if raw["HostConfig"].get("NetworkMode") == "host" else ""
    if raw["Config"].get("Hostname") not in (None, "", raw["Id"][:12], lent):
        config["Hostname"] = raw["Config"]["Hostname"]
    endpoints = {
        name: _endpoint(raw["Id"], container.name, endpoint or {})
        for name, endpoint in (raw["NetworkSettings"].get("Networks") or {}).items()
    }
    return ContainerDefinition(
        name=container.name,
        id=container.id,
        image=container.image,
        running=container.status in ("running", "paused", "restarting"),
        service=container.service,
        depends_on=tuple(dependencies(container)),
        config=config,
        host_config=dict(raw["HostConfig"]),
        endpoints=endpoints,
        volumes=tuple(mount.volume for mount in container.mounts if mount.volume),
    )


def _endpoint(container: str, name: str, endpoint: Mapping[str, Any]) -> dict[str, Any]:
    own = {container[:12], name}
    kept: dict[str, Any] = {}
    if aliases := [alias for alias in endpoint.get("Aliases") or () if alias not in own]:
        kept["Aliases"] = aliases
    if endpoint.get("IPAMConfig"):
        kept["IPAMConfig"] = endpoint["IPAMConfig"]
    if endpoint.get("Links"):
        kept["Links"] = endpoint["Links"]
    if endpoint.get("DriverOpts"):
        kept["DriverOpts"] = endpoint["DriverOpts"]
    return kept


def _fixed(network: str, containers: Iterable[ContainerDefinition]) -> Iterator[str]:
    """The addresses that containers asked for in a network."""
    for container in containers:
        asked = container.endpoints.get(network, {}).get("IPAMConfig") or {}
        yield from (asked[key] for key in ("IPv4Address", "IPv6Address") if asked.get(key))


def _network(raw: Mapping[str, Any], pools: Sequence[Mapping[str, Any]], fixed: Iterable[str]) -> NetworkDefinition:
    ipam = raw.get("IPAM") or {}
    chosen = chosen_ranges(ipam.get("Config") or (), pools, fixed)
    return NetworkDefinition(
        name=raw["Name"],
        driver=raw.get("Driver") or "bridge",
        internal=bool(raw.get("Internal")),
        attachable=bool(raw.get("Attachable")),
        ipv6=bool(raw.get("EnableIPv6")),
        options=dict(raw.get("Options") or {}),
        labels=dict(raw.get("Labels") or {}),
        ipam={"Driver": ipam.get("Driver") or "default", "Config": chosen} if chosen else {},
    )
