"""Whether what lies in a directory is encrypted before it reaches a disk: dm-crypt, fscrypt, ZFS, encrypting overlays.

Rules upheld here:
- Every device below the filesystem counts: one that is plain makes the whole plain.
- What cannot be seen from here (a server elsewhere, a device without a place in sysfs) is not known, and not claimed.

Source: the kernel's Documentation/ABI/stable/sysfs-block and testing/sysfs-block-dm; linux/fscrypt.h; cryptsetup names
its devices in dm/uuid: CRYPT-LUKS2-…, CRYPT-PLAIN-…; CRYPT-VERITY-… and CRYPT-INTEGRITY-… check, and hide nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from holdfast.engine.ground import ZFS, mount_of, zfs_program
from holdfast.engine.programs import run
from holdfast.errors import SourceUnreadable

_ENCRYPTING = frozenset({"ecryptfs", "fuse.gocryptfs", "fuse.encfs", "fuse.cryfs", "fuse.securefs"})
_ELSEWHERE = ("nbd", "rbd", "drbd")
_CHECKS_ONLY = ("CRYPT-VERITY-", "CRYPT-INTEGRITY-")
_GET_POLICY = 0xC0096616
"""FS_IOC_GET_ENCRYPTION_POLICY_EX of linux/fscrypt.h."""
_POLICY_BYTES = 24
_NONE_HERE = (errno.ENODATA, errno.ENOTTY, errno.EOPNOTSUPP)
_SECONDS = 5.0
_DEPTH = 8
"""Layers of loop devices: more of them than this are a mistake."""


@dataclass(frozen=True, slots=True)
class AtRest:
    """`encrypted` is None where it cannot be known; `words` say what was seen."""

    encrypted: bool | None
    words: str


def at_rest(path: str, *, sysfs: str = "/sys") -> AtRest:
    """How what lies at a path reaches the disk."""
    return _at_rest(os.path.realpath(path), sysfs, _DEPTH)


def _at_rest(path: str, sysfs: str, depth: int) -> AtRest:
    kind, source, _, _ = mount_of(path)
    if kind in _ENCRYPTING:
        return AtRest(True, kind)
    if _has_policy(path):
        return AtRest(True, f"{kind} with fscrypt")
    if kind in ZFS:
        return _zfs(source)
    devices = list(_devices(path, kind, source, sysfs))
    if not devices:
        return AtRest(None, f"{kind or 'an unknown filesystem'}, of which no device can be seen")
    below = _all([_below(device, sysfs, depth) for device in devices])
    return AtRest(below.encrypted, f"{kind} on {below.words}")


def _has_policy(path: str) -> bool:
    """Whether the directory has a policy of fscrypt (ext4, f2fs, ubifs, ceph)."""
    answer = bytearray(struct.pack("=Q", _POLICY_BYTES) + bytes(_POLICY_BYTES))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(descriptor, _GET_POLICY, answer)
    except OSError as error:
        if error.errno not in _NONE_HERE:
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def _zfs(dataset: str) -> AtRest:
    """ZFS's own encryption. Its devices are not looked at: what it does not encrypt may still lie on dm-crypt."""
    program = zfs_program()
    if program is None:
        return AtRest(None, "zfs, and there is no program zfs here to ask")
    try:
        value = run([program, "get", "-H", "-o", "value", "encryption", dataset], dataset, seconds=_SECONDS).strip()
    except SourceUnreadable as error:
        return AtRest(None, f"zfs, which does not say: {error.found or error}")
    if value not in ("", "off", "-"):
        return AtRest(True, f"zfs with {value}")
    return AtRest(None, "zfs without encryption of its own; what its pool lies on was not looked at")


def _devices(path: str, kind: str, source: str, sysfs: str) -> Iterator[str]:
    """The folders in sysfs of the devices that a filesystem lies on."""
    number = os.stat(path).st_dev
    named = os.path.basename(os.path.realpath(source)) if source.startswith("/dev/") else ""
    if kind == "btrfs":  # its own numbers are of no device, and it may have several
        for folder in _listed(f"{sysfs}/fs/btrfs"):
            members = _listed(f"{folder}/devices")
            if named in map(os.path.basename, members):
                yield from members
                return
    for candidate in (f"{sysfs}/dev/block/{os.major(number)}:{os.minor(number)}", f"{sysfs}/class/block/{named}"):
        if os.path.isdir(candidate) and os.path.basename(candidate):
            yield candidate
            return


def _below(device: str, sysfs: str, depth: int) -> AtRest:
    """What a device and those below it do."""
    real = os.path.realpath(device)
    name = os.path.basename(real)
    uuid = _read(f"{real}/dm/uuid")
    if uuid.startswith("CRYPT-") and not uuid.startswith(_CHECKS_ONLY):
        return AtRest(True, f"{name} with dm-crypt")
    if below := _listed(f"{real}/slaves"):
        return _all([_below(each, sysfs, depth) for each in below])
    if os.path.exists(f"{real}/partition"):
        return _below(os.path.dirname(real), sysfs, depth)
    if file := _read(f"{real}/loop/backing_file"):
        if not os.path.exists(file) or depth == 0:
            return AtRest(None, f"{name}, whose file {file} is not seen from here")
        return _at_rest(os.path.realpath(file), sysfs, depth - 1)
    if name.startswith(_ELSEWHERE):
        return AtRest(None, f"{name}, which another machine stores")
    return AtRest(False, name)


def _all(parts: Sequence[AtRest]) -> AtRest:
    """One word for several devices: the worst of them."""
    order = (False, None, True)
    return min(parts, key=lambda part: order.index(part.encrypted))


def _listed(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
