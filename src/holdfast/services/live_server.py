"""The files of a PostgreSQL server that runs: they change while they are read, and a dump takes their place.

Rules upheld here:
- A server that is recognised is refused, whoever names its volume; one that only its files tell of is warned about.
"""

from __future__ import annotations

import logging
import os

from holdfast.engine.client import Engine
from holdfast.engine.inventory import take_inventory
from holdfast.errors import SourceUnreadable
from holdfast.model.inventory import FoundContainer
from holdfast.policy.stacks import POSTGRES_LABEL, is_postgres, writers_of

log = logging.getLogger(__name__)


def refuse_live_server(engine: Engine, name: str, mountpoint: str, *, held: bool = False) -> None:
    """Raise when a volume holds the files of a PostgreSQL server that runs; warn where it only seems so.

    `held` tells that those who write it are held for the capture. Raises: SourceUnreadable.
    """
    inventory = take_inventory(engine)
    volume = next((v for v in inventory.volumes if v.name == name), None)
    for container in writers_of(inventory, volume) if volume else ():
        if container.running and is_postgres(container) and _holds_cluster(mountpoint):
            raise SourceUnreadable(
                "the volume holds the files of a running PostgreSQL server, which change while they are read",
                which=name,
                wanted="a dump",
                found=f"container {container.name}",
                hint=f"name it under postgres (container: {container.name}), and remove it from volumes",
            )
        if container.running and not held and not is_postgres(container):
            _warn_of_unknown_server(container, name, mountpoint)


def _holds_cluster(mountpoint: str) -> bool:
    """Whether a data directory lies in it."""
    try:
        return bool(_clusters(mountpoint))
    except OSError:
        return True  # it cannot be looked into: the container that runs decides


def _clusters(mountpoint: str) -> list[str]:
    """The data directories in it: at its top, in `data`, or in `18/docker` as newer images have it. Raises: OSError."""
    below = [entry.path for entry in os.scandir(mountpoint) if entry.is_dir(follow_symlinks=False)]
    folders = [mountpoint, *below, *(os.path.join(path, "docker") for path in below)]
    return [folder for folder in folders if os.path.exists(os.path.join(folder, "global", "pg_control"))]


def _warn_of_unknown_server(container: FoundContainer, name: str, mountpoint: str) -> None:
    """A server that neither image nor environment tells of leaves its files; its container's label may deny it."""
    try:
        served = [folder for folder in _clusters(mountpoint) if os.path.exists(os.path.join(folder, "postmaster.pid"))]
    except OSError:
        return
    if served and POSTGRES_LABEL not in container.labels:
        log.warning(
            "volume %s holds the files of a PostgreSQL server that seems to run in container %s: they may be worth "
            "nothing when they are read while it writes: label it holdfast.postgres=true, or hold it (quiesce: pause)",
            name,
            container.name,
        )
