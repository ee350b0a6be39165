"""What the monitor sees of the host: the engine's volumes and containers, and filesystems. It only looks.

Rules upheld here:
- An engine that does not answer is a finding where something needs it, and all that hangs on it counts as unseen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.config.labels import read_labels
from holdfast.errors import HoldfastError
from holdfast.model.monitor import Finding, Severity
from holdfast.services.observe import unreachable
from holdfast.services.report import Filesystem
from holdfast.services.security import examine_containers
from holdfast.services.stacks import needs_engine
from holdfast.services.volume_safety import examine_volumes
from holdfast.store.url import LocalUrl, parse_url

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.engine.client import Engine
    from holdfast.engine.volumes import Volume


class EngineSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the engine: `sizes` in bytes by measure, `root` the folder that it fills, where that is here.

    `unseen` are areas that could not be looked at: what was open there is not over.
    """

    findings: tuple[Finding, ...] = ()
    unseen: frozenset[str] = frozenset()
    sizes: dict[str, float] = {}
    root: str | None = None


def observe_engine(config: Config, *, labelled: bool = False) -> EngineSeen:
    """Unprotected volumes, what is unsafe in containers and volumes, and sizes.

    An engine that does not answer is a finding where a stack needs it, and where labels enabled some (`labelled`).
    """
    from holdfast.engine.client import connect
    from holdfast.engine.inventory import described_containers
    from holdfast.engine.volumes import all_volumes

    needed = labelled or needs_engine(config)
    try:
        with connect(config.engine.url) as engine:
            volumes, containers = all_volumes(engine), described_containers(engine)
            unsafe, unseen = examine_volumes(engine, volumes)
            findings = (*_unprotected(config, engine, volumes), *examine_containers(containers), *unsafe)
            here = engine.same_machine()
            root = str(engine.info().get("DockerRootDir") or "") or None if here else None
            sizes = _sizes(engine, containers if here else ())
            return EngineSeen(findings=findings, unseen=frozenset(unseen), sizes=sizes, root=root)
    except HoldfastError as error:  # it is gone, or a proxy before it refuses what has to be asked
        unreached = (unreachable("engine-unreachable", "engine", error),) if needed else ()
        return EngineSeen(findings=unreached, unseen=frozenset({"engine"}) if needed else frozenset())


def _unprotected(config: Config, engine: Engine, volumes: Sequence[Volume]) -> Iterator[Finding]:
    """Volumes that a container has and no stack. Anonymous ones count: databases hide in them."""
    from holdfast.engine.sandbox import LABEL
    from holdfast.engine.volumes import containers_using

    known = {volume.name for stack in config.stacks.values() for volume in stack.volumes}
    databases = {server.container for stack in config.stacks.values() for server in stack.postgres}
    for volume in volumes:
        users = [use.container for use in containers_using(engine, volume)]
        on_purpose = read_labels(volume.labels, "volume", volume.name).values.get("enable") is False
        on_purpose = on_purpose or volume.options.get("type") == "tmpfs"  # it holds nothing to lose
        if volume.name in known or LABEL in volume.labels or on_purpose or not users or set(users) <= databases:
            continue
        yield Finding(
            kind="volume-unprotected",
            subject=volume.name,
            severity=Severity.WARNING,
            found=f"no stack has it; container {', '.join(users)} writes to it",
            wanted="every volume that is used in a stack",
            hint='label it holdfast.enable="true", or name it in the configuration; holdfast plan says more',
            area="engine",
        )


def _sizes(engine: Engine, containers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Bytes of each volume, as the engine counts them, of images, containers' own layers, build cache and logs."""
    with engine.asking("cannot ask for the usage of space"):
        usage = engine.api.df()
    sizes = {
        f"volume-bytes {volume['Name']}": float(volume["UsageData"]["Size"])
        for volume in usage.get("Volumes") or ()
        if (volume.get("UsageData") or {}).get("Size", -1) >= 0
    }
    sizes["engine-images-bytes"] = float(usage.get("LayersSize") or 0)
    sizes["engine-containers-bytes"] = float(sum(c.get("SizeRw") or 0 for c in usage.get("Containers") or ()))
    sizes["engine-build-cache-bytes"] = float(sum(c.get("Size") or 0 for c in usage.get("BuildCache") or ()))
    if (logs := _log_bytes(containers)) is not None:
        sizes["engine-logs-bytes"] = logs
    return sizes


def _log_bytes(containers: Sequence[Mapping[str, Any]]) -> float | None:
    """Bytes of what containers wrote to their logs, rotated files too; None where no log can be seen from here."""
    total, seen = 0, False
    for container in containers:
        folder, name = os.path.split(str(container.get("LogPath") or ""))
        try:
            with os.scandir(folder) as entries:
                total += sum(e.stat(follow_symlinks=False).st_size for e in entries if e.name.startswith(name))
            seen = True
        except OSError:
            continue  # it went while we looked, keeps its log elsewhere, or may not be read
    return float(total) if seen else None


def observe_filesystems(config: Config, engine_root: str | None) -> list[Filesystem]:
    """The filesystems that fill up: the engine's, that of a local repository, that of temporary files."""
    place = parse_url(config.repository.url)
    paths = [engine_root, place.path if isinstance(place, LocalUrl) else None]
    found: dict[int, Filesystem] = {}
    for path in filter(None, paths):
        if os.path.isdir(path):
            status = os.statvfs(path)
            found.setdefault(
                os.stat(path).st_dev,
                Filesystem(
                    path=path,
                    total=float(status.f_blocks * status.f_frsize),
                    used=float((status.f_blocks - status.f_bavail) * status.f_frsize),
                    inodes=1 - status.f_favail / status.f_files if status.f_files else 0.0,
                ),
            )
    return list(found.values())
