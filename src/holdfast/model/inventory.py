"""What an Engine holds, as plain values: the containers and volumes from which stacks are found.

Rules upheld here:
- The values of environment variables are in no repr: passwords are among them.
- Nothing here knows where it came from: tests and policies make these values by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
WORKING_DIR = "com.docker.compose.project.working_dir"
CONFIG_FILES = "com.docker.compose.project.config_files"
DEPENDS_ON = "com.docker.compose.depends_on"
NAMESPACES = ("NetworkMode", "PidMode", "IpcMode")
"""What of a container's settings may name another one as `container:ID`."""
ANONYMOUS = "com.docker.volume.anonymous"

HELD = frozenset({"running"})
"""The states in which a container can write, and in which it can be held."""


@dataclass(frozen=True, slots=True)
class FoundMount:
    """One mount of a container. `kind`: volume, bind, tmpfs, npipe; `volume` is the volume's name, if it is one."""

    kind: str
    volume: str | None
    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class FoundContainer:
    """A container at the instant of asking; `status` is the engine's word (running, paused, exited, created, …)."""

    id: str
    name: str
    image: str
    status: str
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[FoundMount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    joins: tuple[str, ...] = ()
    """Containers, by id or name, whose network or processes it shares: it is cut off, or ends, when they stop."""
    goes_when_stopped: bool = False
    """Whether the engine removes it as soon as it stops (`docker run --rm`), with its anonymous volumes."""

    @property
    def running(self) -> bool:
        """Whether its processes run right now."""
        return self.status in HELD

    @property
    def service(self) -> str:
        """Its service in the Compose project; its own name elsewhere."""
        return self.labels.get(SERVICE) or self.name


def namespaces_of(host_config: Mapping[str, Any]) -> tuple[str, ...]:
    """The containers whose namespaces a container shares (`network_mode: service:x` and the like), by id or name."""
    modes = (str(host_config.get(key) or "") for key in NAMESPACES)
    return tuple(dict.fromkeys(mode.partition(":")[2] for mode in modes if mode.startswith("container:")))


@dataclass(frozen=True, slots=True)
class FoundVolume:
    """A volume: `mountpoint` is a path of the engine's host."""

    name: str
    driver: str = "local"
    mountpoint: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def anonymous(self) -> bool:
        """Whether nobody named it: 64 hex digits, or the engine's own label."""
        digits = len(self.name) == 64 and all(digit in "0123456789abcdef" for digit in self.name)
        return digits or ANONYMOUS in self.labels


@dataclass(frozen=True, slots=True)
class Inventory:
    """All containers, running or not, and all volumes."""

    containers: tuple[FoundContainer, ...] = ()
    volumes: tuple[FoundVolume, ...] = ()
