"""What making a stack again would do on a host, and what forbids it: pure, from its description and what is there.

Rules upheld here:
- Everything that forbids it is found before anything is touched, and all of it is said at once.
- What is there stays unless replacing was asked for; what belongs to another project is never taken.
- The dry run is this plan.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from holdfast.model.definition import ContainerDefinition, StackDefinition
from holdfast.model.inventory import PROJECT, FoundContainer, Inventory, namespaces_of
from holdfast.policy.stacks import is_below

EMPTY = "an empty directory: containers mount it, and it was not backed up"
State = Literal["missing", "empty", "holds data"]


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """What is on the host: `targets` gives the state of each volume and directory that data would go to, by label."""

    inventory: Inventory
    networks: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    targets: Mapping[str, State] = {}
    elsewhere: frozenset[str] = frozenset()
    """Those of them whose data lies elsewhere than on the host: written over the engine, and never swapped."""
    absent: frozenset[str] = frozenset()
    """Paths that containers mount and that are not on the host."""
    free: Mapping[str, int] = {}
    """Bytes free where each label's data would go."""
    places: Mapping[str, int] = {}
    """The device of each label's place: what shares one shares its space."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do: `make`, `pull`, `load`, `restore`, `replace`, `start`, `keep`."""

    verb: str
    what: str
    detail: str = ""


class RebuildPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done, in order, and what forbids it: then nothing is done."""

    stack: str
    point: str
    steps: tuple[Step, ...]
    problems: tuple[str, ...] = ()


def plan_rebuild(
    definition: StackDefinition, point: str, sizes: Mapping[str, int], host: HostState, *, replace: bool
) -> RebuildPlan:
    """The plan. `sizes` gives the bytes of each source of the restore point by its label."""
    steps = [
        *_images(definition, host),
        *_networks(definition, host),
        *_data(sizes, host),
        *(Step(verb="make", what=path, detail=EMPTY) for path in empty_mounts(definition, sizes, host)),
        *_containers(definition, host),
        *_databases(definition, sizes, host),
    ]
    problems = (*_collisions(definition, host), *_full(sizes, host), *_filled(sizes, host, replace=replace))
    return RebuildPlan(stack=definition.stack, point=point, steps=tuple(steps), problems=problems)


def bind_mounts(definition: StackDefinition) -> frozenset[str]:
    """The paths of the host that containers mount."""
    sources = (source for container in definition.containers for source in mounts_of(container).values())
    return frozenset(posixpath.normpath(source) for source in sources if source.startswith("/"))


def empty_mounts(definition: StackDefinition, sizes: Mapping[str, int], host: HostState) -> list[str]:
    """What containers mount of the host and neither it nor the restore point has: it will be empty."""
    kept = {file.path for file in definition.files}
    trees = [label.partition(":")[2] for label in sizes if label.startswith("path:")]
    missing = (path for path in sorted(bind_mounts(definition) & host.absent) if path not in kept)
    return [path for path in missing if not any(is_below(path, tree) for tree in trees)]


def mounts_of(container: ContainerDefinition) -> dict[str, str]:
    """What a container mounts, by the path inside: the name of a volume, or a path of the host."""
    found = {}
    for bind in container.host_config.get("Binds") or ():
        source, _, rest = str(bind).partition(":")
        found[rest.partition(":")[0]] = source
    for mount in container.host_config.get("Mounts") or ():
        if mount.get("Type") in ("volume", "bind") and mount.get("Source"):
            found[str(mount["Target"])] = str(mount["Source"])
    return found


def needed_by(host_config: Mapping[str, Any]) -> tuple[str, ...]:
    """The containers, by id or name, without which another can be neither made nor started."""
    volumes = (str(each).partition(":")[0] for each in host_config.get("VolumesFrom") or ())
    links = (str(each).partition(":")[0].lstrip("/") for each in host_config.get("Links") or ())
    return tuple(dict.fromkeys([*namespaces_of(host_config), *volumes, *links]))


def data_place(mounts: Mapping[str, str], directory: str) -> tuple[str, str] | None:
    """The source of the mount that holds a directory of a container, and the way from there; None where none does."""
    holding = [target for target in mounts if f"{directory}/".startswith(f"{target.rstrip('/')}/")]
    if not holding:
        return None
    nearest = max(holding, key=len)
    return mounts[nearest], directory[len(nearest.rstrip("/")) :].strip("/")


def _images(definition: StackDefinition, host: HostState) -> Iterator[Step]:
    for image in definition.images:
        if image.reference in host.images or (image.id and image.id in host.images):
            yield Step(verb="keep", what=f"image {image.reference}", detail="the engine has it")
        elif image.saved:
            yield Step(verb="load", what=f"image {image.reference}", detail="from the repository")
        else:
            yield Step(verb="pull", what=f"image {image.reference}", detail="from its registry")


def _networks(definition: StackDefinition, host: HostState) -> Iterator[Step]:
    for network in definition.networks:
        there = network.name in host.networks
        yield Step(verb="keep" if there else "make", what=f"network {network.name}", detail=network.driver)


def _data(sizes: Mapping[str, int], host: HostState) -> Iterator[Step]:
    for label, size in sizes.items():
        state = host.targets.get(label)
        if state is not None:
            verb = "replace" if state == "holds data" else "restore"
            how = "compared with the backup before it is used"
            if label in host.elsewhere:
                how = "written over the engine, unless its storage holds data already"
            yield Step(verb=verb, what=label, detail=f"{size} bytes, {how}")


def _containers(definition: StackDefinition, host: HostState) -> Iterator[Step]:
    present = {container.name for container in host.inventory.containers}
    for container in definition.containers:
        verb = "keep" if container.name in present else "make"
        yield Step(verb=verb, what=f"container {container.name}", detail=container.image)


def _databases(definition: StackDefinition, sizes: Mapping[str, int], host: HostState) -> Iterator[Step]:
    for label, container in definition.databases.items():
        if label in sizes and label not in host.targets:
            yield Step(verb="restore", what=label, detail=f"loaded into container {container}, compared")
        elif label in sizes:
            yield Step(verb="start", what=f"container {container}", detail=f"{label} recovers in it, compared")
    running = [container.name for container in definition.containers if container.running]
    if running:
        yield Step(verb="start", what=", ".join(running), detail="and wait until they are healthy")


def _collisions(definition: StackDefinition, host: HostState) -> Iterator[str]:
    wanted = {container.name for container in definition.containers}
    for container in host.inventory.containers:
        if container.name in wanted and container.labels.get(PROJECT) != _project_of(definition, container.name):
            yield f"container {container.name} is here and belongs to another project: rename or remove it"
        elif container.name in wanted and container.status in ("paused", "restarting"):
            yield f"container {container.name} is {container.status}: unpause it, or stop it"
        elif container.name in wanted and container.running and container.goes_when_stopped:
            yield f"container {container.name} is removed as soon as it stops (--rm): stop it yourself"
    volumes = {f"volume:{volume.name}" for volume in definition.volumes}
    for container in host.inventory.containers:
        foreign = container.name not in wanted and container.running
        used = [f"volume:{m.volume}" for m in container.mounts if m.volume and foreign]
        paths = [label for label in host.targets if foreign and _mounted(label, container)]
        for label in sorted({*volumes & set(used), *paths}):
            if host.targets.get(label) == "holds data":
                yield f"{label} is in use by container {container.name}, which is not of this stack: stop it"


def _mounted(label: str, container: FoundContainer) -> bool:
    """Whether a container mounts a directory that is restored, or a part of it; one that mounts all of `/` looks on."""
    kind, _, path = label.partition(":")
    binds = (m.source for m in container.mounts if m.kind == "bind" and m.source != "/")
    return kind == "path" and any(is_below(source, path) or is_below(path, source) for source in binds)


def _project_of(definition: StackDefinition, name: str) -> str | None:
    for container in definition.containers:
        if container.name == name:
            labels: Mapping[str, str] = container.config.get("Labels") or {}
            return labels.get(PROJECT)
    return None


def _full(sizes: Mapping[str, int], host: HostState) -> Iterator[str]:
    """The old data stays until the new is whole, so that all of the new needs room of its own."""
    wanted: dict[int, int] = {}
    free: dict[int, int] = {}
    for label, device in host.places.items():
        wanted[device] = wanted.get(device, 0) + sizes.get(label, 0)
        free[device] = host.free.get(label, 0)
    for device, bytes_wanted in wanted.items():
        if bytes_wanted > free[device]:
            labels = ", ".join(label for label, place in host.places.items() if place == device)
            yield f"not enough room: {labels} need {bytes_wanted} bytes, {free[device]} are free"


def _filled(sizes: Mapping[str, int], host: HostState, *, replace: bool) -> Iterator[str]:
    for label in sizes:
        if host.targets.get(label) == "holds data" and label in host.elsewhere:
            yield (
                f"{label} holds data, which lies elsewhere and cannot be kept beside the new: empty it, or remove the "
                "volume to have its data left as it is"
            )
        elif host.targets.get(label) == "holds data" and not replace:
            yield f"{label} holds data: --replace puts the restored data in its place, and keeps it until that is whole"
