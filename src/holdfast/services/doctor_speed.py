"""How fast this host stores: a short measurement where volumes lie, where Holdfast keeps its state, and in memory.

Rules upheld here:
- Only scratch files and a scratch volume are written, and removed again; a kill leaves what `holdfast reap` removes.
- It is short: so many bytes and so many seconds, whatever comes first.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from holdfast.config.place import state_folder
from holdfast.errors import HoldfastError
from holdfast.model.words import size
from holdfast.services.finding import Finding

if TYPE_CHECKING:
    from holdfast.config.models import Config

_BYTES, _BLOCK, _SECONDS = 32 << 20, 1 << 20, 3.0
_SLOW = 10 << 20
"""Bytes a second: below this a backup of some GiB takes the night, and a restore the morning."""
_MEMORY = "/dev/shm"  # noqa: S108  that it is memory is the point


def examine_speed(config: Config) -> Iterator[Finding]:
    """One finding for each kind of place: a volume, a directory of the host (as a bind mount has it), a tmpfs."""
    yield from _volume(config)
    yield _measured("speed of a bind mount", state_folder())
    if os.path.ismount(_MEMORY):
        yield _measured("speed of a tmpfs", _MEMORY)


def _volume(config: Config) -> Iterator[Finding]:
    """Where volumes lie, in one that is made for this."""
    from holdfast.engine.client import connect
    from holdfast.engine.sandbox import Sandbox
    from holdfast.engine.volumes import readable_directly

    try:
        with connect(config.engine.url) as engine, Sandbox(engine) as sandbox:
            volume = sandbox.volume("speed")
            if readable_directly(engine, volume) is None:
                yield _measured("speed of a volume", volume.mountpoint)
    except HoldfastError:
        return  # the engine's own finding says so


def _measured(check: str, folder: str) -> Finding:
    try:
        written, read = _write_and_read(folder)
    except OSError as error:
        return Finding(
            check=check,
            verdict="fail",
            found=f"{folder}: {error.strerror}",
            hint=f"df -h {folder}; df -i {folder}; ls -ld {folder}",
        )
    slow = min(written, read) < _SLOW
    return Finding(
        check=check,
        verdict="warn" if slow else "ok",
        found=f"writes {size(written)}/s, synced, and reads {size(read)}/s in {folder}",
        hint="iostat -x 1 shows who keeps the disk busy: backups and restores go at this speed" if slow else None,
    )


def _write_and_read(folder: str) -> tuple[float, float]:
    """Bytes per second of a synced write and of reading it back, past the cache where the kernel lets go of it."""
    block = os.urandom(_BLOCK)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        started, done = time.monotonic(), 0
        while done < _BYTES and time.monotonic() - started < _SECONDS:
            done += file.write(block)
        os.fsync(file.fileno())
        written = done / max(time.monotonic() - started, 1e-6)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        started, got = time.monotonic(), 0
        while (part := len(file.read(_BLOCK))) and time.monotonic() - started < _SECONDS:
            got += part
        return written, got / max(time.monotonic() - started, 1e-6)
