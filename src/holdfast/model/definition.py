"""What a stack is made of, as it is recorded in each restore point: enough to make it again on a blank host.

Rules upheld here:
- What the Engine says of a container is kept as it said it (`config`, `host_config`): what is not understood today is
  not lost. Environment variables may hold secrets: no repr shows them, and `masked` is what may be printed.
"""

from __future__ import annotations

from typing import Any

import msgspec

DEFINITION = b"definition.json"
FILES, IMAGES = b"files", b"images"
KIND = "stack"
MASK = "***"


class VolumeDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as it was created."""

    name: str
    driver: str = "local"
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class NetworkDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A network as it was created; `ipam` as the Engine spells it."""

    name: str
    driver: str = "bridge"
    internal: bool = False
    attachable: bool = False
    ipv6: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    ipam: dict[str, Any] = {}


class ImageDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a container runs from; `saved` is its archive's name below `images/`, if the repository has it."""

    reference: str
    id: str
    digests: tuple[str, ...] = ()
    size: int = 0
    saved: str = ""


class ContainerDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A container, by the Engine's own words; `endpoints` are its settings in each network."""

    name: str
    id: str
    image: str
    running: bool
    service: str = ""
    depends_on: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    host_config: dict[str, Any] = {}
    endpoints: dict[str, dict[str, Any]] = {}
    volumes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"ContainerDefinition({self.name!r})"


class FileDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A file that belongs to the stack's description: a Compose file, `.env`, a mounted file."""

    path: str
    stored: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    compose: bool = False


class StackDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A stack at the time of a backup. `databases` gives the container of each dump by its label."""

    version: int = 1
    stack: str
    project: str | None = None
    working_dir: str = ""
    volumes: tuple[VolumeDefinition, ...] = ()
    networks: tuple[NetworkDefinition, ...] = ()
    images: tuple[ImageDefinition, ...] = ()
    containers: tuple[ContainerDefinition, ...] = ()
    files: tuple[FileDefinition, ...] = ()
    databases: dict[str, str] = {}


def masked(document: Any) -> Any:
    """A definition's plain data with the values of all environment variables masked, for printing."""
    if isinstance(document, dict):
        return {key: _masked_lines(value) if key == "Env" else masked(value) for key, value in document.items()}
    return [masked(each) for each in document] if isinstance(document, list) else document


def _masked_lines(lines: Any) -> Any:
    if not isinstance(lines, list):
        return lines
    return [f"{str(line).partition('=')[0]}={MASK}" for line in lines]
