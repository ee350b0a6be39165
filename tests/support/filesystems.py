"""Filesystems on loop devices, for tests of what only some of them can do; and a file that nobody can read."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from deployments.local.kept import Command, Kept
from deployments.local.machine import CannotProvide, find_tool, is_root
from deployments.local.packages import ensure_tool

PACKAGES = {"btrfs": "btrfs-progs", "xfs": "xfsprogs", "ext4": "e2fsprogs"}


@contextmanager
def mounted(folder: Path, kind: str, options: Sequence[str] = (), *, mib: int = 400) -> Iterator[Path]:
    """A new filesystem below `folder`; the test is skipped, with the reason, where it cannot be had."""
    if not is_root() or kind not in Path("/proc/filesystems").read_text().split():
        pytest.skip(f"mounting a {kind} needs root and a kernel that has it")
    try:
        ensure_tool(f"mkfs.{kind}", (PACKAGES[kind],))
    except CannotProvide as error:
        pytest.skip(str(error))
    image, top = folder / f"{kind}.image", folder / kind
    top.mkdir()
    with image.open("wb") as file:
        file.truncate(mib << 20)
    make = find_tool(f"mkfs.{kind}")
    assert make is not None
    subprocess.run([make, *options, str(image)], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", str(image), str(top)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    try:
        yield top
    finally:
        subprocess.run(["umount", str(top)], check=True)
        image.unlink()


@contextmanager
def zpool(folder: Path, *, mib: int = 300) -> Iterator[tuple[str, Path]]:
    """A new ZFS pool in a file below `folder`: its name, and where it is mounted. Of the kernel's ZFS, or zfs-fuse's.

    The test is skipped, with the reason, where neither can be had.
    """
    if not is_root() or not (os.path.exists("/dev/zfs") or os.path.exists("/dev/fuse")):
        pytest.skip("ZFS needs root, and a kernel with it or with FUSE")
    with ExitStack() as stack:
        try:
            if not os.path.exists("/dev/zfs") and not _pools_answer():
                daemon = ensure_tool("zfs-fuse", ("zfs-fuse",))
                argv = (daemon, "--no-daemon", "--no-kstat-mount")
                stack.enter_context(Kept()).start([Command("zfs-fuse", argv)])
            ensure_tool("zpool", ("zfsutils-linux",))
        except CannotProvide as error:
            pytest.skip(str(error))
        wait_until = time.monotonic() + 20
        while not _pools_answer():
            assert time.monotonic() < wait_until
            time.sleep(0.1)
        image, name = folder / "zfs.image", f"holdfast-test-{secrets.token_hex(4)}"
        with image.open("wb") as file:
            file.truncate(mib << 20)
        _zpool("create", "-m", str(folder / "zfs"), name, str(image))
        stack.callback(_destroy_pool, name)
        yield name, folder / "zfs"


def _pools_answer() -> bool:
    found = find_tool("zpool")
    return found is not None and subprocess.run([found, "list"], capture_output=True, check=False).returncode == 0


def _destroy_pool(name: str) -> None:
    """What was read a moment ago may be in use for a moment longer."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return _zpool("destroy", "-f", name)
        except subprocess.CalledProcessError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _zpool(*arguments: str) -> None:
    found = find_tool("zpool")
    assert found is not None
    subprocess.run([found, *arguments], check=True, capture_output=True)


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """A file that even root cannot read, for the time of the block: reading it gives an input/output error.

    The kernel's own: the memory of this process lies over it, whose first page is never there.
    """
    if not is_root():
        pytest.skip("mounting needs root")
    memory = f"/proc/{os.getpid()}/mem"
    done = subprocess.run(["mount", "--bind", memory, str(path)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file can be mounted over another here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)
