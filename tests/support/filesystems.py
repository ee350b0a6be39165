"""Filesystems on loop devices, for tests of what only some of them can do; and a file that nobody can read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

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
