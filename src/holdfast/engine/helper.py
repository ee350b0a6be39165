"""A container that only holds a volume for the Engine's archive API: created, never started, and gone afterwards.

Rules upheld here:
- Nothing runs in it and no image is pulled: its image is an empty archive that was imported.
- It carries the label by which the reaper removes what a killed run left.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from holdfast.engine.client import Engine
from holdfast.engine.sandbox import LABEL, OWNER, present_owner
from holdfast.engine.volumes import Volume

MOUNT = "/volume"
"""Where the volume lies in the container."""

_EMPTY_IMAGE = "holdfast-empty"
_END = bytes(1024)


@contextmanager
def helper_container(engine: Engine, volume: Volume, *, writable: bool = False) -> Iterator[str]:
    """The id of a container that has the volume at MOUNT. Raises: EngineRefused, EngineUnavailable."""
    api = engine.api
    what = "write" if writable else "read"
    with engine.asking(f"cannot {what} the volume", volume.name):
        if not api.images(_EMPTY_IMAGE):
            api.import_image_from_data(_END, repository=_EMPTY_IMAGE)
        created = api.create_container(
            _EMPTY_IMAGE,
            command=["-"],
            name=f"holdfast-{what}-{secrets.token_hex(6)}",
            labels={LABEL: f"{what}-{secrets.token_hex(6)}", OWNER: present_owner()},
            host_config=api.create_host_config(
                binds={volume.name: {"bind": MOUNT, "mode": "rw" if writable else "ro"}}, network_mode="none"
            ),
        )
    try:
        yield created["Id"]
    finally:
        with engine.asking(f"cannot remove the container that holds the volume to {what} it", volume.name):
            api.remove_container(created["Id"], force=True)


def write_archive(engine: Engine, volume: Volume, archive: Iterable[bytes]) -> None:
    """Unpack a tar archive into a volume. What the iterable raises goes through; the volume is then half-written.

    Its names begin with MOUNT: of an archive for the mount itself the Engine would leave out the root's own entry.

    Raises: EngineRefused (no room, among others), EngineUnavailable.
    """
    with (
        helper_container(engine, volume, writable=True) as container,
        engine.asking("cannot write the volume", volume.name),
    ):
        engine.api.put_archive(container, "/", archive)
