"""Volumes: found by their exact name, read in place where that is possible, made and removed on purpose only.

Rules upheld here:
- A name that does not exist is an error. Nothing here makes a volume but `create_volume`, and it never takes over one
  that was there before (the Engine's own "create" does, in silence).
- A mountpoint counts as readable only where it surely is the volume: an engine of this machine, the `local` driver,
  nothing that is mounted there on demand. Otherwise an empty directory would be backed up as the volume.
- A volume in use is never removed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from docker.errors import APIError

from holdfast.engine.client import Engine, check_name
from holdfast.errors import SourceNotFound, TargetInUse, TargetNotEmpty

MADE_BY = "holdfast.created"
"""The label of volumes that Holdfast made; its value is random, which tells ours from one that was there before."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as the engine describes it. `mountpoint` is a path on the engine's host."""

    name: str
    driver: str
    mountpoint: str
    labels: Mapping[str, str]
    options: Mapping[str, str]
    created: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """A container that has a volume mounted; `running` is true for a paused one, too."""

    container: str
    running: bool
    read_only: bool


def find_volume(engine: Engine, name: str) -> Volume:
    """The volume of exactly this name. Raises: SourceNotFound, which names the nearest ones; EngineUnavailable."""

    def names() -> list[str]:
        return volume_names(engine)

    what = "there is no volume of this name"
    check_name("volume", name, names)
    with engine.asking(what, name, names=names):
        found = parse_volume(engine.api.inspect_volume(name))
    if found.name != name:
        raise SourceNotFound(what, which=name, found=found.name)
    return found


def volume_names(engine: Engine) -> list[str]:
    """The names of all volumes, sorted. Raises: EngineUnavailable."""
    with engine.asking("cannot list volumes"):
        return sorted(volume["Name"] for volume in engine.api.volumes()["Volumes"] or ())


def all_volumes(engine: Engine) -> list[Volume]:
    """All volumes, by name. Raises: EngineUnavailable."""
    with engine.asking("cannot list volumes"):
        found = engine.api.volumes()["Volumes"] or ()
    return sorted(map(parse_volume, found), key=lambda volume: volume.name)


def create_volume(
    engine: Engine,
    name: str,
    labels: Mapping[str, str] | None = None,
    *,
    driver: str = "local",
    options: Mapping[str, str] | None = None,
) -> Volume:
    """Make an empty volume. Raises: TargetNotEmpty when there is one of this name; EngineRefused, EngineUnavailable."""
    token = secrets.token_hex(8)
    with engine.asking("cannot create a volume", name):
        made = parse_volume(
            engine.api.create_volume(
                name, driver=driver, driver_opts=dict(options or {}), labels={**(labels or {}), MADE_BY: token}
            )
        )
    # The engine answers with success, and the old volume, when there is one.
    if made.labels.get(MADE_BY) != token:
        raise TargetNotEmpty(
            "there is a volume of this name already",
            which=name,
            wanted="a new volume",
            found=f"one that was created {made.created}",
            hint="choose another name; docker volume ls shows those in use",
        )
    return made


def remove_volume(engine: Engine, name: str) -> None:
    """Remove a volume and what it holds. Raises: TargetInUse, SourceNotFound, EngineRefused, EngineUnavailable."""
    volume = find_volume(engine, name)
    if users := containers_using(engine, volume):
        raise in_use(volume, users)
    with engine.asking("cannot remove a volume", name):
        try:
            engine.api.remove_volume(name)
        except APIError as error:
            if error.status_code == 409:  # taken into use since we looked
                raise in_use(volume, containers_using(engine, volume)) from error
            raise


def containers_using(engine: Engine, volume: Volume) -> list[Use]:
    """The containers, running or not, that mount the volume by name, or its mountpoint or a part of it by path."""
    with engine.asking("cannot list containers"):
        containers = engine.api.containers(all=True)
    uses = []
    for container in containers:
        mounts = [mount for mount in container.get("Mounts") or () if _is_mount_of(mount, volume)]
        if mounts:
            name = (container.get("Names") or [container["Id"][:12]])[0].lstrip("/")
            read_only = not any(mount.get("RW") for mount in mounts)
            uses.append(Use(name, container.get("State") in {"running", "paused", "restarting"}, read_only))
    return sorted(uses, key=lambda use: use.container)


def in_use(volume: Volume, users: list[Use]) -> TargetInUse:
    """The error for a volume that must not be touched because of these containers."""
    names = " ".join(use.container for use in users)
    running = " ".join(use.container for use in users if use.running)
    return TargetInUse(
        "the volume is in use",
        which=volume.name,
        wanted="a volume that no container uses",
        found=f"containers {names}" if names else "a container that just ended",
        hint=f"docker stop {running}" if running else f"docker rm {names}" if names else None,
    )


def readable_directly(engine: Engine, volume: Volume) -> str | None:
    """None when the volume can be read at its mountpoint from here, otherwise the reason why not."""
    return unreachable_from_here(engine) or why_not_in_place(volume)


def unreachable_from_here(engine: Engine) -> str | None:
    """Why no volume of this engine can be read at its mountpoint; None when those that lie there can."""
    if not engine.local:
        return f"the engine at {engine.url} is not on this machine"
    if not engine.same_machine():
        return f"the engine behind {engine.url} runs on another machine"
    if engine.rootless():
        # What is user 70 in a container is somebody else here, and cannot be read by the engine's own user.
        return f"the engine at {engine.url} is rootless: its files have other owners here than in containers"
    return None


def why_not_in_place(volume: Volume) -> str | None:
    """Why a volume of this machine's engine cannot be read at its mountpoint; None when it can."""
    return _why_elsewhere(volume) or _why_unreadable(volume.mountpoint)


def bound_directory(driver: str, options: Mapping[str, str]) -> str | None:
    """The directory of the host that a volume of the `local` driver stands for (`o=bind`); None for any other."""
    device = options.get("device", "")
    bound = {"bind", "rbind"} & set(options.get("o", "").split(","))
    return device.rstrip("/") if driver == "local" and bound and device.startswith("/") else None


def mounted_on_demand(driver: str, options: Mapping[str, str]) -> bool:
    """Whether its data lies elsewhere, and is at its mountpoint only while a container uses it."""
    # NFS, a device, a bind: what is there now is gone when the last container stops, perhaps while we read.
    return driver != "local" or bool(options.get("type") or options.get("device"))


def _why_elsewhere(volume: Volume) -> str | None:
    if volume.driver != "local":
        return f"its driver {volume.driver} is not the local one"
    if mounted_on_demand(volume.driver, volume.options):
        return f"it is mounted at {volume.mountpoint} only while a container uses it"
    return None


def _why_unreadable(path: str) -> str | None:
    try:
        with os.scandir(path) as entries:
            next(entries, None)
    except FileNotFoundError:
        return f"{path} is not there: mount the volumes folder into this container at the same path"
    except PermissionError:
        return f"uid {os.getuid()} may not read {path}"
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def _is_mount_of(mount: Mapping[str, Any], volume: Volume) -> bool:
    if mount.get("Type") == "volume":
        return bool(mount.get("Name") == volume.name)
    source = str(mount.get("Source") or "").rstrip("/")
    return bool(volume.mountpoint) and (source == volume.mountpoint or source.startswith(volume.mountpoint + "/"))


def parse_volume(found: Mapping[str, Any]) -> Volume:
    """A volume from what the engine says of it."""
    return Volume(
        name=found["Name"],
        driver=found["Driver"],
        mountpoint=found.get("Mountpoint") or "",
        labels=dict(found.get("Labels") or {}),
        options=dict(found.get("Options") or {}),
        created=found.get("CreatedAt") or "",
    )
