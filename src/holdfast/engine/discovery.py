"""Containers, found by their exact name and described as plain values.

Rules upheld here:
- A name is the whole name: neither the start of one nor an id, which would quietly be another container tomorrow.
- The values of environment variables are never in a repr: passwords are among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.engine.client import Engine, check_name
from holdfast.errors import SourceNotFound, SourceUnreadable
from holdfast.model.inventory import namespaces_of


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a container: `volume` is the volume's name, None for a bind mount or tmpfs."""

    kind: str
    volume: str | None
    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Container:
    """A container at the instant of asking.

    `image` is the reference it was created from, `image_id` the image that was meant then. `status` is the engine's
    word (`running`, `paused`, `exited`, `created`, `restarting`, `dead`). `networks` gives its address in each network.
    """

    id: str
    name: str
    image: str
    image_id: str
    status: str
    pid: int
    labels: Mapping[str, str]
    networks: Mapping[str, str]
    mounts: tuple[Mount, ...]
    environment: Mapping[str, str] = field(repr=False)
    joins: tuple[str, ...] = ()
    goes_when_stopped: bool = False

    @property
    def running(self) -> bool:
        """Whether its processes run right now: a paused container's do not."""
        return self.status == "running"


def find_container(engine: Engine, name: str) -> Container:
    """The container of exactly this name, running or not. Raises: SourceNotFound, EngineUnavailable."""

    def names() -> list[str]:
        return container_names(engine)

    what = "there is no container of this name"
    check_name("container", name, names)
    with engine.asking(what, name, names=names):
        found = parse_container(engine.api.inspect_container(name))
    if found.name != name:
        raise SourceNotFound(what, which=name, found="the start of an id", hint=f"did you mean {found.name}?")
    return found


def find_running(engine: Engine, name: str) -> Container:
    """The running container of exactly this name. Raises: SourceNotFound, SourceUnreadable, EngineUnavailable."""
    container = find_container(engine, name)
    if not container.running:
        raise not_running(container)
    return container


def not_running(container: Container) -> SourceUnreadable:
    """The error for a container that has to run and does not."""
    verb = "unpause" if container.status == "paused" else "start"
    return SourceUnreadable(
        "the container is not running",
        which=container.name,
        wanted="running",
        found=container.status,
        hint=f"docker {verb} {container.name}",
    )


def container_names(engine: Engine) -> list[str]:
    """The names of all containers, running or not, sorted. Raises: EngineUnavailable."""
    with engine.asking("cannot list containers"):
        return sorted(name.lstrip("/") for found in engine.api.containers(all=True) for name in found["Names"] or ())


def parse_container(found: Mapping[str, Any]) -> Container:
    """A container from what `inspect` says of it."""
    state, config = found["State"], found["Config"]
    networks, host = found["NetworkSettings"].get("Networks") or {}, found.get("HostConfig") or {}
    return Container(
        id=found["Id"],
        name=found["Name"].lstrip("/"),
        image=config["Image"],
        image_id=found["Image"],
        status=state["Status"],
        pid=state.get("Pid") or 0,
        labels=dict(config.get("Labels") or {}),
        networks={name: (network or {}).get("IPAddress") or "" for name, network in networks.items()},
        mounts=(
            *(_mount(mount) for mount in found.get("Mounts") or ()),
            # `--tmpfs` is told apart from all other mounts.
            *(Mount("tmpfs", None, "", path, read_only=False) for path in host.get("Tmpfs") or ()),
        ),
        environment=dict(_pair(line) for line in config.get("Env") or ()),
        joins=namespaces_of(host),
        goes_when_stopped=bool(host.get("AutoRemove")),
    )


def _mount(found: Mapping[str, Any]) -> Mount:
    return Mount(
        kind=found.get("Type") or "",
        volume=found.get("Name") or None,
        source=found.get("Source") or "",
        target=found.get("Destination") or "",
        read_only=not found.get("RW"),
    )


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name, value
