"""Writing an image archive that any engine loads, from one layer and a configuration, without an engine.

Rules upheld here:
- The format is that of `docker save` (Docker Image Specification 1.2): a manifest, a configuration, one tar per
  layer.
- The same input gives the same bytes, so the image has the same id everywhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass

from deployments.local.machine import architecture

EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class ImageSettings:
    """What a container of the image starts with."""

    command: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = "SIGTERM"


def write_archive(layer: str, settings: ImageSettings, reference: str, target: str) -> None:
    """Write an image archive for `docker load`.

    Args:
        layer: a tar archive of the root filesystem.
        settings: what containers start with.
        reference: the image's `name:tag`.
        target: the archive to write.
    """
    with open(layer, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = _json(_config(settings, digest))
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layer_name = f"{digest}/layer.tar"
    manifest = _json([{"Config": config_name, "RepoTags": [reference], "Layers": [layer_name]}])
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        _add(archive, config_name, config)
        _add(archive, "manifest.json", manifest)
        member = tarfile.TarInfo(layer_name)
        member.size = os.path.getsize(layer)
        with open(layer, "rb") as file:
            archive.addfile(member, file)


def _config(settings: ImageSettings, digest: str) -> dict[str, object]:
    container: dict[str, object] = {
        "Cmd": list(settings.command),
        "Entrypoint": list(settings.entrypoint) or None,
        "Env": [f"{name}={value}" for name, value in settings.environment],
        "ExposedPorts": {port: {} for port in settings.ports},
        "Volumes": {volume: {} for volume in settings.volumes},
        "StopSignal": settings.stop_signal,
        "WorkingDir": "/",
    }
    return {
        "architecture": architecture(),
        "os": "linux",
        "created": EPOCH,
        "config": container,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": EPOCH, "created_by": "packages of the distribution"}],
    }


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
