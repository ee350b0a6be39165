"""What a directory lies on, from the kernel's own list of mounts."""

from __future__ import annotations

import pytest

from holdfast.engine.ground import Ground, mount_below

MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:35 / /tank rw shared:9 - zfs tank rw,xattr
41 22 253:2 / /var/lib/docker rw - xfs /dev/mapper/vg-docker rw
42 41 0:44 /@data /var/lib/docker/volumes/my\040data/_data rw - btrfs /dev/vdb rw
43 22 0:36 / /tank2 rw - tmpfs tmpfs rw
44 22 0:37 / /tank2 rw - zfs tank/two rw
""".strip()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/srv", ("ext4", "/dev/vda")),
        ("/", ("ext4", "/dev/vda")),
        ("/tank/a", ("zfs", "tank")),
        ("/tanker", ("ext4", "/dev/vda")),
        ("/var/lib/docker/volumes/x/_data", ("xfs", "/dev/mapper/vg-docker")),
        ("/var/lib/docker/volumes/my data/_data", ("btrfs", "/dev/vdb")),
        ("/tank2", ("zfs", "tank/two")),  # the last of those that are mounted over each other
    ],
)
def test_the_mount_of_a_path(path: str, found: tuple[str, str]) -> None:
    assert mount_below(MOUNTS, path)[:2] == found


def test_a_mount_shows_a_folder_of_its_filesystem() -> None:
    mount = mount_below(MOUNTS, "/var/lib/docker/volumes/my data/_data/below")
    assert (mount.root, mount.point) == ("/@data", "/var/lib/docker/volumes/my data/_data")


def test_what_has_snapshots_that_are_not_used_is_named() -> None:
    assert "with the program zfs here" in Ground("zfs").words
    assert "read in a snapshot" in Ground("zfs", program=True).words
    assert "only its thin volumes" in Ground("ext4", lvm=True).words
    assert "only its thin volumes" not in Ground("btrfs", lvm=True).words
    assert "with lvm2 here" in Ground("xfs", lvm=True, thin=True).words
    assert "read in a snapshot" in Ground("xfs", lvm=True, thin=True, program=True).words
    assert "read in a snapshot" in Ground("btrfs").words
