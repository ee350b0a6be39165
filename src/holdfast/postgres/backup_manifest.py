"""The server's own list of a base backup: every file with its size and checksum, checked against what arrived.

Rules upheld here:
- The list itself is checked by the SHA-256 at its end before a word of it is believed.
- Every file of the list must have arrived with its size and checksum, and nothing else but what the server never lists.

Source: PostgreSQL manual, "Backup Manifest Format".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from holdfast.errors import BaseBackupFailed
from holdfast.model.wal import Lsn

NAME = b"backup_manifest"
_UNLISTED = (b"pg_wal/", NAME)
_SHOWN = 3


class _File(msgspec.Struct, rename="pascal"):
    path: str | None = msgspec.field(name="Path", default=None)
    encoded: str | None = msgspec.field(name="Encoded-Path", default=None)
    size: int = msgspec.field(name="Size", default=-1)
    algorithm: str = msgspec.field(name="Checksum-Algorithm", default="")
    checksum: str = msgspec.field(name="Checksum", default="")


class _Range(msgspec.Struct):
    timeline: int = msgspec.field(name="Timeline")
    start: str = msgspec.field(name="Start-LSN")
    end: str = msgspec.field(name="End-LSN")


class _Manifest(msgspec.Struct):
    version: int = msgspec.field(name="PostgreSQL-Backup-Manifest-Version")
    files: list[_File] = msgspec.field(name="Files")
    ranges: list[_Range] = msgspec.field(name="WAL-Ranges")
    checksum: str = msgspec.field(name="Manifest-Checksum")
    system: int | None = msgspec.field(name="System-Identifier", default=None)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file as it arrived: its size in bytes and CRC-32C."""

    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that was believed: the WAL that the backup needs, and its files with their CRC-32C ("" for none)."""

    timeline: int
    start: Lsn
    stop: Lsn
    files: Mapping[bytes, tuple[int, str]]
    system: str | None


def read_manifest(data: bytes, which: str) -> Manifest:
    """Read and check a manifest. Raises: BaseBackupFailed."""
    body, mark, _ = data.rpartition(b'"Manifest-Checksum"')
    try:
        found = msgspec.json.decode(data, type=_Manifest)
    except msgspec.DecodeError as error:
        raise _failed(which, f"it cannot be read: {error}") from error
    if not mark or hashlib.sha256(body).hexdigest() != found.checksum:
        raise _failed(which, "its own checksum does not match")
    if not found.ranges:
        raise _failed(which, "it names no WAL")
    files = {_path(file): (file.size, file.checksum if file.algorithm == "CRC32C" else "") for file in found.files}
    last = max(found.ranges, key=lambda part: Lsn.parse(part.end))
    first = min(found.ranges, key=lambda part: Lsn.parse(part.start))
    system = None if found.system is None else str(found.system)
    return Manifest(last.timeline, Lsn.parse(first.start), Lsn.parse(last.end), files, system)


def check_arrived(manifest: Manifest, arrived: Mapping[bytes, Arrived], which: str) -> None:
    """Refuse a backup of which a file is missing, different, or too many. Raises: BaseBackupFailed."""
    problems = []
    for path, (size, checksum) in manifest.files.items():
        found = arrived.get(path)
        if found is None:
            problems.append(f"{path.decode(errors='replace')} is missing")
        elif found.size != size:
            problems.append(f"{path.decode(errors='replace')} has {found.size} of {size} bytes")
        elif checksum and found.crc.to_bytes(4, "little").hex() != checksum:
            problems.append(f"{path.decode(errors='replace')} has another checksum")
    extra = sorted(path for path in arrived if path not in manifest.files and not path.startswith(_UNLISTED))
    problems.extend(f"{path.decode(errors='replace')} is not listed" for path in extra)
    if problems:
        shown = "; ".join(problems[:_SHOWN]) + (
            f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        )
        raise BaseBackupFailed(
            "what arrived is not what the server sent", which=which, wanted=f"{len(manifest.files)} files", found=shown
        )


def _path(file: _File) -> bytes:
    return bytes.fromhex(file.encoded) if file.encoded is not None else (file.path or "").encode()


def _failed(which: str, found: str) -> BaseBackupFailed:
    return BaseBackupFailed("the base backup's manifest is not to be believed", which=which, found=found)
