"""A snapshot of a thin volume of LVM, mounted read-only in a private folder.

Rules upheld here:
- A directory qualifies only if the whole of it lies in one ext4 or XFS filesystem on one thin volume, and lvm2 is here.
- A snapshot shares its pool with the writers, who would fail with it: none is taken of a pool that is nearly full.
- It can be mounted, or it is none: mounting is a part of taking, so that what fails costs only time.
- The mount lies in a folder that only its owner can enter; removing takes only what carries our name.

LVM suspends the volume for the snapshot, for which the kernel freezes the filesystem: all of it is written, and what is
left in the journal are files that were deleted while open. The snapshot is writable and its mount is not, so that the
kernel can replay that journal (XFS asks for it) in the snapshot's own blocks. Inode numbers and times are those of the
original, which the second pass compares. Of volumes that are not thin a snapshot needs room set aside: none is taken.

Source: lvcreate(8), lvmthin(7), mount(8); the kernel's admin-guide/device-mapper/thin-provisioning.rst.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from holdfast.engine import showcase
from holdfast.engine.ground import ON_THIN, Mount, lvm_program, mount_of, volume_kind
from holdfast.engine.lvm import lvm, volumes, wait_for_makers
from holdfast.engine.programs import once_idle, run
from holdfast.errors import SourceUnreadable

log = logging.getLogger(__name__)

KIND = "lvm"
_MOST_FULL = 90.0
_OPTIONS = {"ext4": "ro,nosuid,nodev,noexec", "xfs": "ro,nosuid,nodev,noexec,nouuid"}


@dataclass(frozen=True, slots=True)
class ThinVolume:
    """The volume that a directory lies in, as GROUP/NAME, its filesystem, and the directory's path in it."""

    top: str
    below: str
    filesystem: str

    def plan(self) -> ThinSnapshot:
        """A snapshot to take."""
        name = showcase.new_name()
        return ThinSnapshot(self.top, self.filesystem, name, showcase.folder_of(name))


@dataclass(frozen=True, slots=True)
class ThinSnapshot:
    """A snapshot of the volume `origin`: its name in the same group, and the folder in which it is mounted."""

    origin: str
    filesystem: str
    name: str
    folder: str
    syncs = True

    @property
    def note(self) -> str:
        """What is written down of it."""
        return json.dumps([KIND, self._volume, self.folder])

    def take(self) -> None:
        """`lvcreate --snapshot`, and mount it. Raises: SourceUnreadable."""
        lvm("lvcreate", "--yes", "--snapshot", "--setactivationskip", "n", "--name", self.name, self.origin)
        top, options = showcase.make(self.folder), _OPTIONS[self.filesystem]
        run(["mount", "-t", self.filesystem, "-o", options, f"/dev/{self._volume}", top], self._volume)

    def show(self) -> str:
        """Where it is mounted."""
        return showcase.top_of(self.folder)

    @property
    def _volume(self) -> str:
        return f"{self.origin.partition('/')[0]}/{self.name}"


def volume_of(path: str, devices: Collection[int]) -> ThinVolume | None:
    """The thin volume that holds all of a directory; None where there is none, or where it gives no snapshot now.

    `devices` are those of everything that was seen in the directory. Raises: OSError.
    """
    real = os.path.realpath(path)
    mount = mount_of(real)
    device = os.stat(path).st_dev
    if mount.kind not in ON_THIN or volume_kind(mount.source) != "thin" or lvm_program() is None:
        return None
    if set(devices) - {device} or os.stat(mount.source).st_rdev != device:
        return None
    try:
        found = volumes()
    except SourceUnreadable as error:
        log.warning("no snapshot of %s, what changed is copied while its writers are held: %s", path, error)
        return None
    return _with_room(mount, real, device, found)


def _with_room(mount: Mount, real: str, device: int, found: Sequence[dict[str, str]]) -> ThinVolume | None:
    numbers = {"lv_kernel_major": str(os.major(device)), "lv_kernel_minor": str(os.minor(device)), "segtype": "thin"}
    for volume in found:
        if numbers.items() <= volume.items():
            full = _fullness(volume["vg_name"], volume["pool_lv"], found)
            if full < _MOST_FULL:
                below = os.path.normpath(os.path.join(mount.root, os.path.relpath(real, mount.point)))
                return ThinVolume(f"{volume['vg_name']}/{volume['lv_name']}", below.lstrip("/"), mount.kind)
            words = (
                "no snapshot of %s, what changed is copied while its writers are held: its thin pool %s is %.0f %% full"
            )
            log.warning(words, real, volume["pool_lv"], full)
    return None


def _fullness(group: str, pool: str, found: Sequence[dict[str, str]]) -> float:
    """Of a pool's data or metadata, the fuller one in per cent; 100 when that is not known."""
    for volume in found:
        if (volume["vg_name"], volume["lv_name"]) == (group, pool):
            return max(float(volume[field] or 100) for field in ("data_percent", "metadata_percent"))
    return 100.0


def remove_snapshot(volume: str, folder: str) -> None:
    """Unmount and remove a snapshot; what is not there is fine. Raises: SourceUnreadable."""
    group, _, name = volume.partition("/")
    if not name.startswith(showcase.NAME) or os.path.basename(folder) != name:
        raise SourceUnreadable("this is no snapshot of ours", which=volume)
    wait_for_makers(name)
    if os.path.ismount(top := showcase.top_of(folder)):
        once_idle(lambda: run(["umount", top], volume))
    if any((each["vg_name"], each["lv_name"]) == (group, name) for each in volumes()):
        lvm("lvremove", "--yes", "--force", volume)
    showcase.remove(folder)
