"""Which part of a recorded container a drill starts in its sandbox: pure, from the stack's description.

Rules upheld here:
- What is taken over is listed here, one by one; everything else of what the Engine recorded stays out: ports, networks,
  privileges, capabilities, devices, namespaces of the host, labels, links, restarting.
- A mount is of what the restore point holds, or it is a problem that says so. Nothing of the host is ever mounted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from holdfast.errors import DrillFailed
from holdfast.model.definition import ContainerDefinition, FileDefinition, StackDefinition
from holdfast.policy.rebuild import mounts_of

_HARMLESS = ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")


class Mounted(msgspec.Struct, frozen=True, kw_only=True):
    """One mount: the label of a snapshot and the way below its root, or a file of the stack's description."""

    target: str
    label: str = ""
    below: str = ""
    file: FileDefinition | None = None


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What is started: images by which it may be found, settings, mounts, and the names that others know it by."""

    images: tuple[str, ...]
    settings: dict[str, Any]
    limits: dict[str, Any]
    mounts: tuple[Mounted, ...] = ()

    def __repr__(self) -> str:  # its environment may hold secrets
        return f"Started({self.images!r})"


def container_of(definition: StackDefinition, name: str) -> ContainerDefinition:
    """The container of a service, or of that name. Raises: DrillFailed."""
    for container in definition.containers:
        if name in (container.service, container.name):
            return container
    raise DrillFailed(
        "the restore point's description has no such service",
        which=name,
        found=", ".join(container.service or container.name for container in definition.containers) or "no container",
    )


def names_of(container: ContainerDefinition) -> list[str]:
    """What other containers of the stack call it."""
    aliases = [str(a) for endpoint in container.endpoints.values() for a in endpoint.get("Aliases") or ()]
    return [name for name in dict.fromkeys([container.service, container.name, *aliases]) if name]


def plan_start(
    definition: StackDefinition, name: str, labels: Collection[str], without: Collection[str] = ()
) -> Started:
    """What is started of a service, given the labels of what the restore point holds. Raises: DrillFailed."""
    container = container_of(definition, name)
    host = container.host_config
    ids = [image.id for image in definition.images if image.reference == container.image and image.id]
    return Started(
        images=(*ids, container.image),
        settings=dict(_settings(container.config)),
        limits=dict(_limits(host)),
        mounts=tuple(_mounts(definition, container, labels, without)),
    )


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """By the words of the SDK's `create_container`."""
    yield "environment", [str(line) for line in config.get("Env") or ()]
    yield "command", config.get("Cmd") or None
    for key, word in (("Entrypoint", "entrypoint"), ("User", "user"), ("WorkingDir", "working_dir")):
        if config.get(key):
            yield word, config[key]


def _limits(host: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """By the words of the SDK's `create_host_config`: what makes a container smaller, never what makes it stronger."""
    temporary = {str(path): str(options) for path, options in (host.get("Tmpfs") or {}).items()}
    temporary |= {str(m["Target"]): "" for m in host.get("Mounts") or () if m.get("Type") == "tmpfs"}
    yield "tmpfs", temporary
    yield "security_opt", [option for option in host.get("SecurityOpt") or () if option in _HARMLESS]
    names = (
        ("CapDrop", "cap_drop"),
        ("Init", "init"),
        ("Memory", "mem_limit"),
        ("NanoCpus", "nano_cpus"),
        ("PidsLimit", "pids_limit"),
        ("ReadonlyRootfs", "read_only"),
        ("ShmSize", "shm_size"),
    )
    for key, word in names:
        if host.get(key):
            yield word, host[key]


def _mounts(
    definition: StackDefinition, container: ContainerDefinition, labels: Collection[str], without: Collection[str]
) -> Iterator[Mounted]:
    lacking = []
    for target, source in mounts_of(container).items():
        if target in without:
            continue
        found = _held(definition, target, source, labels)
        if found is None:
            lacking.append(f"{source} at {target}")
        else:
            yield found
    if lacking:
        raise DrillFailed(
            "the service mounts what the restore point does not hold",
            which=container.name,
            found=", ".join(lacking),
            hint="back it up with the stack (volumes, paths), or name where it is mounted in the check's `without`",
        )


def _held(definition: StackDefinition, target: str, source: str, labels: Collection[str]) -> Mounted | None:
    if not source.startswith("/"):
        label = f"volume:{source}"
        return Mounted(target=target, label=label) if label in labels else None
    paths = [label for label in labels if label.startswith("path:/")]
    for label in sorted(paths, key=len, reverse=True):
        root = label.removeprefix("path:").rstrip("/")
        if f"{source}/".startswith(f"{root}/"):
            return Mounted(target=target, label=label, below=source[len(root) :].strip("/"))
    for file in definition.files:
        if file.path == source:
            return Mounted(target=target, file=file)
    return None
