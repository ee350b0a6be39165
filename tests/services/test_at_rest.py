"""Whether a directory is encrypted at rest: on real filesystems, and below devices that only sysfs describes here."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from pathlib import Path

import pytest

from holdfast.engine.at_rest import at_rest
from tests.support.filesystems import mounted

ADD_KEY, SET_POLICY = 0xC0506617, 0x800C6613  # linux/fscrypt.h


def encrypt(folder: Path) -> None:
    """What `fscrypt encrypt` does: a key for the filesystem, a policy for an empty directory."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        argument = bytearray(struct.pack("=II32sI36s", 2, 0, b"", 64, b"") + os.urandom(64))
        fcntl.ioctl(descriptor, ADD_KEY, argument)
        policy = bytes((2, 1, 4, 2, 0, 0, 0, 0)) + bytes(argument[8:24])
        fcntl.ioctl(descriptor, SET_POLICY, policy)
    finally:
        os.close(descriptor)


def test_a_directory_with_a_policy_is_encrypted_and_its_neighbour_is_not(tmp_path: Path) -> None:
    with mounted(tmp_path, "ext4", ("-q", "-O", "encrypt"), mib=64) as top:
        for name in ("secret", "plain"):
            (top / name).mkdir()
        try:
            encrypt(top / "secret")
        except OSError as error:
            pytest.skip(f"this kernel has no fscrypt: {error}")
        (top / "secret" / "below").mkdir()
        for name in ("secret", "secret/below"):
            assert (at_rest(str(top / name)).encrypted, at_rest(str(top / name)).words) == (True, "ext4 with fscrypt")
        # The loop device's own file lies where this machine's files lie.
        plain, below = at_rest(str(top / "plain")), at_rest(str(tmp_path))
        assert plain.encrypted is below.encrypted
        assert plain.words == f"ext4 on {below.words}"


def test_memory_is_not_judged() -> None:
    assert at_rest("/proc").encrypted is None
    assert at_rest("/dev/shm").encrypted is None


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A sysfs in which the device of this very directory is `dm-0`; what lies below it a test says."""
    top = tmp_path / "sys"
    number = os.stat(tmp_path).st_dev
    (top / "dev" / "block").mkdir(parents=True)
    (top / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}").symlink_to(top / "block" / "dm-0")
    device(top, "dm-0")
    return top


def device(top: Path, name: str, uuid: str = "", slaves: tuple[str, ...] = ()) -> Path:
    folder = top / "block" / name
    (folder / "slaves").mkdir(parents=True, exist_ok=True)
    if uuid:
        (folder / "dm").mkdir()
        (folder / "dm" / "uuid").write_text(f"{uuid}\n")
    for slave in slaves:
        (folder / "slaves" / slave).symlink_to(device(top, slave) if not (top / "block" / slave).exists() else ".")
    return folder


@pytest.mark.parametrize(
    ("uuid", "encrypted"),
    [
        ("CRYPT-LUKS2-1f0a-data", True),
        ("CRYPT-PLAIN-swap", True),
        ("CRYPT-VERITY-1f0a-root", False),
        ("CRYPT-INTEGRITY-data", False),
        ("LVM-abcdef", False),
    ],
)
def test_a_device_says_what_it_is(sysfs: Path, tmp_path: Path, uuid: str, encrypted: bool) -> None:
    device(sysfs, "dm-0", uuid, ("sda",))
    found = at_rest(str(tmp_path), sysfs=str(sysfs))
    assert found.encrypted is encrypted
    assert ("dm-0 with dm-crypt" if encrypted else " on sda") in found.words


def test_every_device_below_counts(sysfs: Path, tmp_path: Path) -> None:
    """A logical volume on two physical ones: one on LUKS, one on a partition of a plain disk."""
    device(sysfs, "dm-1", "CRYPT-LUKS2-1f0a-one")
    device(sysfs, "dm-0", "LVM-abcdef", ("dm-1",))
    (sysfs / "block" / "dm-0" / "slaves" / "dm-1").unlink()
    (sysfs / "block" / "dm-0" / "slaves" / "dm-1").symlink_to(sysfs / "block" / "dm-1")
    assert at_rest(str(tmp_path), sysfs=str(sysfs)).encrypted is True
    partition = device(sysfs, "sdb") / "sdb1"
    partition.mkdir()
    (partition / "partition").write_text("1")
    (sysfs / "block" / "dm-0" / "slaves" / "sdb1").symlink_to(partition)
    found = at_rest(str(tmp_path), sysfs=str(sysfs))
    assert (found.encrypted, found.words.endswith(" on sdb")) == (False, True)


def test_a_disk_of_another_machine_is_not_judged(sysfs: Path, tmp_path: Path) -> None:
    device(sysfs, "dm-0", "LVM-abcdef", ("rbd0",))
    assert at_rest(str(tmp_path), sysfs=str(sysfs)).encrypted is None


def test_what_sysfs_does_not_tell_is_not_known(tmp_path: Path) -> None:
    found = at_rest(str(tmp_path), sysfs=str(tmp_path / "nothing"))
    assert found.encrypted is None
    assert "no device can be seen" in found.words
    assert stat.S_ISDIR(os.stat(tmp_path).st_mode)
